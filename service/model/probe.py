"""What a loaded model does with the rows of a call, found by running it a few times.

Rows of single-token sequences do not interact, so every module's input row depends on the row's own
token alone: running the rows in another order tells which rows a module sees, and in which order.
Where only one sequence runs at a time, its tokens are changed one by one instead.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache
from transformers.pytorch_utils import Conv1D

from service.base import LaneName, RowMap, SiteKind
from service.model.attention import register
from service.model.kv_store import LayerShape, bytes_per_token
from service.model.lanes.calls import Accepts
from service.model.memory import PastCost
from service.model.row_maps import NOBODY, Run, causal_row_map, independent_row_map
from service.model.state_size import measure

_NUM_ROWS = 7
_WANTED = [1, 3, 4, 6]
_ORDER = [4, 3, 5, 6, 0, 2, 1]


@dataclass(slots=True)
class ProbeResult:
    layers: dict[int, LayerShape] = field(default_factory=dict)
    row_maps: dict[str, RowMap] = field(default_factory=dict)
    """By path of the modules whose rows are known; the others cannot carry adapters."""
    past_cost: PastCost = field(default_factory=lambda: PastCost(0))


def probe(model: PreTrainedModel, lane: LaneName = "ragged") -> ProbeResult:
    """A few forwards. In the ragged lane the model is left with the probe's attention."""
    result = ProbeResult()
    vocabulary = num_embeddings(model)
    count = vocabulary // (2 * _NUM_ROWS + 2)
    tokens = [(index + 1) * count for index in range(2 * _NUM_ROWS)]
    find = {"ragged": _find_ragged, "padded": _find_padded, "solo": _find_solo}[lane]
    find(model, tokens, result)
    if lane == "solo":
        result.past_cost, result.layers = measure(model)
    else:
        result.past_cost = PastCost(bytes_per_token(result.layers, model.dtype))
    return result


def site_kind(module: torch.nn.Module) -> SiteKind | None:
    """None for modules that no adapter touches."""
    if isinstance(module, torch.nn.Linear):
        return "linear"
    if isinstance(module, Conv1D):
        return "conv1d"
    if isinstance(module, torch.nn.Embedding):
        return "embedding"
    weight = getattr(module, "weight", None)
    is_norm = "norm" in type(module).__name__.lower() and not list(module.children())
    return "norm" if is_norm and weight is not None and weight.ndim == 1 else None


def num_embeddings(model: PreTrainedModel) -> int:
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, torch.Tensor)
    return weight.shape[0]


def _find_ragged(model: PreTrainedModel, tokens: list[int], result: ProbeResult) -> None:
    model.set_attn_implementation(register(_RecordingAttention(result.layers)))

    def run(order: list[int]) -> Run:
        inputs = _inputs_of_sites(
            model,
            [[tokens[label] for label in order]],
            [[0] * len(order)],
            _WANTED,
            use_cache=False,
        )
        return Run(inputs, order, [order[row] for row in _WANTED])

    _compare(run, result)


def _find_padded(model: PreTrainedModel, tokens: list[int], result: ProbeResult) -> None:
    """Each sequence has one position of padding, or its rows would be as many as are wanted."""

    def run(order: list[int]) -> Run:
        inputs = _inputs_of_sites(
            model,
            [[0, tokens[label]] for label in order],
            [[0, 0] for _ in order],
            [1],
            attention_mask=torch.tensor([[0, 1]] * len(order), device=model.device),
            past_key_values=_RecordingCache(result.layers),
            use_cache=True,
        )
        return Run(inputs, [row for label in order for row in (NOBODY, label)], order)

    _compare(run, result)


def _compare(run: Callable[[list[int]], Run], result: ProbeResult) -> None:
    straight, shuffled = run(list(range(_NUM_ROWS))), run(_ORDER)
    for path in straight.inputs:
        row_map = independent_row_map(path, straight, shuffled)
        if row_map is not None:
            result.row_maps[path] = row_map


def _find_solo(model: PreTrainedModel, tokens: list[int], result: ProbeResult) -> None:
    labels = list(range(_NUM_ROWS))

    def run(changed: int | None) -> Run:
        ids = [tokens[label + _NUM_ROWS * (label == changed)] for label in labels]
        inputs = _inputs_of_sites(model, [ids], [labels], _WANTED, use_cache=True)
        return Run(inputs, labels, _WANTED)

    base, others = run(None), [run(label) for label in labels]
    for path in base.inputs:
        row_map = causal_row_map(path, base, others)
        if row_map is not None:
            result.row_maps[path] = row_map


class _RecordingAttention:
    """Attention of sequences of one token each: a row's output is its own value."""

    def __init__(self, layers: dict[int, LayerShape]) -> None:
        self._layers = layers

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        self._layers[layer] = LayerShape(key.shape[1], key.shape[3], value.shape[3])
        group = query.shape[1] // value.shape[1]
        return value.repeat_interleave(group, dim=1).transpose(1, 2).contiguous(), None


class _RecordingCache(Cache):
    """An empty past."""

    def __init__(self, layers: dict[int, LayerShape]) -> None:
        super().__init__(layers=[])
        self._shapes = layers

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self._shapes[layer_idx] = LayerShape(
            key_states.shape[1], key_states.shape[3], value_states.shape[3]
        )
        return key_states, value_states


@torch.inference_mode()
def _inputs_of_sites(
    model: PreTrainedModel,
    tokens: list[list[int]],
    positions: list[list[int]],
    wanted: list[int],
    **options: Any,
) -> dict[str, list[torch.Tensor]]:
    seen: dict[str, list[torch.Tensor]] = {}
    hooks = [
        module.register_forward_pre_hook(_keep_input(seen.setdefault(path, [])))
        for path, module in model.named_modules()
        if site_kind(module)
    ]
    accepts = Accepts.of(model)
    if accepts.position_ids:
        options["position_ids"] = torch.tensor(positions, device=model.device)
    if accepts.logits_to_keep:
        options["logits_to_keep"] = torch.tensor(wanted, device=model.device)
    try:
        model(input_ids=torch.tensor(tokens, device=model.device), **options)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _keep_input(inputs: list[torch.Tensor]) -> Any:
    def hook(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        if arguments and isinstance(arguments[0], torch.Tensor):
            inputs.append(arguments[0].detach().float().clone())

    return hook
