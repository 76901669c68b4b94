"""What a loaded model does with the rows of a flattened batch, found by running it once.

Rows of single-token sequences do not interact, so every module's input row depends on the row's own
token alone: running the rows in another order tells which rows a module sees, and in which order.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from service.core import RowMap, SiteKind
from service.model.attention import register
from service.model.kv_store import LayerShape

_NUM_ROWS = 7
_WANTED = [1, 3, 4, 6]
_ORDER = [4, 3, 5, 6, 0, 2, 1]


@dataclass(slots=True)
class ProbeResult:
    layers: dict[int, LayerShape] = field(default_factory=dict)
    row_maps: dict[str, RowMap] = field(default_factory=dict)
    """By path of the modules whose rows are known; the others cannot carry adapters."""


def probe(model: PreTrainedModel) -> ProbeResult:
    """Two forwards of a few rows. Leaves the model with the probe's attention implementation."""
    result = ProbeResult()
    recorder = _Recorder(result.layers)
    model.set_attn_implementation(register(recorder))
    vocabulary = num_embeddings(model)
    tokens = [(index + 1) * (vocabulary // (_NUM_ROWS + 2)) for index in range(_NUM_ROWS)]
    straight = _inputs_of_sites(model, tokens)
    shuffled = _inputs_of_sites(model, [tokens[row] for row in _ORDER])
    for path, inputs in straight.items():
        row_map = _row_map(inputs, shuffled.get(path))
        if row_map is not None:
            result.row_maps[path] = row_map
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


class _Recorder:
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


@torch.inference_mode()
def _inputs_of_sites(model: PreTrainedModel, tokens: list[int]) -> dict[str, list[torch.Tensor]]:
    seen: dict[str, list[torch.Tensor]] = {}
    hooks = [
        module.register_forward_pre_hook(_keep_input(seen.setdefault(path, [])))
        for path, module in model.named_modules()
        if site_kind(module)
    ]
    try:
        model(
            input_ids=torch.tensor([tokens], device=model.device),
            position_ids=torch.zeros(1, len(tokens), dtype=torch.long, device=model.device),
            logits_to_keep=torch.tensor(_WANTED, device=model.device),
            use_cache=False,
        )
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _keep_input(inputs: list[torch.Tensor]) -> Any:
    def hook(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        if arguments and isinstance(arguments[0], torch.Tensor):
            inputs.append(_by_rows(arguments[0].detach()).float())

    return hook


def _by_rows(tensor: torch.Tensor) -> torch.Tensor:
    """`[rows, everything else]`, where the leading dimensions are a number of rows we know."""
    for dim in range(tensor.ndim, 0, -1):
        if tensor.shape[:dim].numel() in (_NUM_ROWS, len(_WANTED)):
            return tensor.reshape(tensor.shape[:dim].numel(), -1)
    return tensor.reshape(1, -1)


def _row_map(straight: list[torch.Tensor], shuffled: list[torch.Tensor] | None) -> RowMap | None:
    """None when the module is called other than once, or sees rows in an order of its own."""
    if len(straight) != 1 or not shuffled or len(shuffled) != 1:
        return None
    before, after = straight[0], shuffled[0]
    if len(before) == len(after) == _NUM_ROWS and _is_same(before[_ORDER], after):
        return "all"
    if len(before) == len(after) == len(_WANTED):
        # Rows of the second run that the first run wanted too, at their places in both.
        pairs = [
            (_WANTED.index(_ORDER[row]), place)
            for place, row in enumerate(_WANTED)
            if _ORDER[row] in _WANTED
        ]
        here, there = (list(places) for places in zip(*pairs, strict=True))
        if len(set(pairs)) > 1 and _is_same(before[here], after[there]):
            return "wanted"
    return None


def _is_same(left: torch.Tensor, right: torch.Tensor) -> bool:
    distinct = not torch.allclose(left, left.roll(1, 0), rtol=1e-2, atol=1e-3)
    return distinct and torch.allclose(left, right, rtol=5e-2, atol=1e-2)
