"""From the choice of a lane to the lane: the one place that knows all of them."""

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


def prepare(model: PreTrainedModel, name: LaneName, context: StepContext) -> LengthClasses:
    """What a lane changes in the model's modules: once, before anything is built on the model."""
    if name == "ragged":
        alibi.use_interface(model)
    return rotary.rotate_by_row(model, context)


def build_lane(
    name: LaneName,
    model: PreTrainedModel,
    context: StepContext,
    layers: dict[int, LayerShape],
    num_blocks: int,
    block_size: int,
) -> Lane:
    """`model` is prepared; `layers` are what `num_blocks` blocks of KV have to hold."""
    if name == "solo":
        return SoloLane(model, context)
    store = KVStore(layers, num_blocks, block_size, model.dtype, torch.device(model.device))
    lane = RaggedLane if name == "ragged" else PaddedLane
    return lane(model, store, context)
