"""From the choice of a lane to the lane: the one place that knows all of them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from service.base import LaneName, LengthClasses
from service.model import alibi, rotary
from service.model.context import StepContext
from service.model.kv_store import KVStore, LayerShape
from service.model.lanes.lane import Lane
from service.model.lanes.padded import PaddedLane
from service.model.lanes.ragged import RaggedLane
from service.model.lanes.solo import SoloLane

if TYPE_CHECKING:
    from service.model.triton.decode_graphs import Capture, DecodeGraphs


def prepare(model: PreTrainedModel, name: LaneName, context: StepContext) -> LengthClasses:
    """What a lane changes in the model's modules: once, before anything is built on the model."""
    if name == "ragged":
        alibi.use_interface(model)
    return rotary.rotate_by_row(model, context)


@dataclass(frozen=True, slots=True)
class GraphOptions:
    """For decode steps as captured graphs."""

    capture: "Capture"
    max_num_seqs: int
    max_model_len: int


def graph_options(
    device: torch.device, max_num_seqs: int, max_model_len: int
) -> GraphOptions | None:
    """None where there is nothing to capture with."""
    if device.type != "cuda":
        return None
    try:
        from service.model.triton.decode_graphs import CudaCapture
    except ImportError:
        return None
    return GraphOptions(CudaCapture(), max_num_seqs, max_model_len)


def build_lane(
    name: LaneName,
    model: PreTrainedModel,
    context: StepContext,
    layers: dict[int, LayerShape],
    num_blocks: int,
    block_size: int,
    graphs: GraphOptions | None = None,
) -> Lane:
    """`model` is prepared; `layers` are what `num_blocks` blocks of KV have to hold."""
    if name == "solo":
        return SoloLane(model, context)
    store = KVStore(layers, num_blocks, block_size, model.dtype, torch.device(model.device))
    if name != "ragged":
        return PaddedLane(model, store, context)
    lane = RaggedLane(model, store, context)
    if graphs is not None and context.kernels is not None:
        lane.graphs = _decode_graphs(lane, context, graphs, block_size, model.device)
    return lane


def _decode_graphs(
    lane: RaggedLane,
    context: StepContext,
    options: GraphOptions,
    block_size: int,
    device: torch.device,
) -> "DecodeGraphs":
    # Where the kernels are Triton's, it is there.
    from service.model.triton.decode_graphs import DecodeGraphs
    from service.model.triton.terms import TritonTerms

    assert context.kernels is not None
    assert isinstance(context.kernels.terms, TritonTerms), "graphs are captured on a GPU"
    graphs = DecodeGraphs(
        lane.forward_all,
        context.kernels.terms,
        context,
        options.capture,
        block_size=block_size,
        max_num_seqs=options.max_num_seqs,
        max_blocks=-(-options.max_model_len // block_size),
        device=device,
    )
    graphs.capture_all()
    return graphs
