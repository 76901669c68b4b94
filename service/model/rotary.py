"""Rotary embeddings whose frequencies depend on a sequence's length, for each row its own.

transformers takes the longest position of the whole call (`modeling_rope_utils.dynamic_rope_update`
for the types `longrope` and `dynamic`), so a short sequence beside a long one would be rotated like
the long one. Here the module's own forward is called once per length that matters, with the last
position of such a sequence added to the rows, which makes transformers choose by it.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel

from service.base import LengthClasses
from service.model.context import StepContext

Angles = torch.Tensor | tuple[torch.Tensor, ...]
"""`[..., rows, dim]` each: cosines and sines, or one tensor of both."""


def rotate_by_row(model: PreTrainedModel, context: StepContext) -> LengthClasses:
    """Once per model; other rotary embeddings stay as they are."""
    found = LengthClasses()
    for module in model.modules():
        kinds = _kinds(module)
        if kinds & {"longrope", "dynamic"}:
            found = LengthClasses(_threshold(module), are_gradual="dynamic" in kinds)
            RotaryByRow(module, context, found)
    return found


def _kinds(module: torch.nn.Module) -> set[str]:
    """Of a rotary embedding; a model whose layers differ has one per layer type."""
    kind = getattr(module, "rope_type", None)
    return set(kind.values()) if isinstance(kind, dict) else {kind} if kind else set()


def _threshold(module: Any) -> int:
    parameters = module.config.rope_parameters
    for rope in (parameters, *(one for one in parameters.values() if isinstance(one, dict))):
        if rope.get("rope_type") == "longrope":
            return int(rope["original_max_position_embeddings"])
    return int(module.config.max_position_embeddings)


class RotaryByRow:
    def __init__(self, module: Any, context: StepContext, classes: LengthClasses) -> None:
        self._forward: Callable[..., Angles] = module.forward
        self._context = context
        self._classes = classes
        module.forward = self.forward
        context.can_capture = False

    def forward(
        self, x: torch.Tensor, position_ids: torch.Tensor, *args: Any, **options: Any
    ) -> Angles:
        """`position_ids [B, q]`, whose rows are those of the step."""
        lengths = self._context.final_lens
        if not lengths:  # Before the first step: the probe, whose sequences are all short.
            return self._forward(x, position_ids, *args, **options)
        if len(lengths) != position_ids.numel():
            raise RuntimeError(f"{position_ids.numel()} positions for {len(lengths)} rows")
        rows: dict[int, list[int]] = {}
        for row, length in enumerate(lengths):
            rows.setdefault(self._classes.of(length), []).append(row)
        flat = position_ids.flatten()
        index = {length: torch.tensor(one, device=flat.device) for length, one in rows.items()}
        angles = [self._angles(x, flat[one], key, args, options) for key, one in index.items()]
        order = torch.cat(list(index.values())).argsort()
        return _joined(angles, order, position_ids.shape)

    def _angles(
        self,
        x: torch.Tensor,
        positions: torch.Tensor,
        length: int,
        args: tuple[Any, ...],
        options: dict[str, Any],
    ) -> tuple[torch.Tensor, ...]:
        """`[n, dim]` each, of `positions [n]` in sequences of `length` (0: any short one)."""
        if self._classes.are_gradual:
            # The module remembers the longest call until it sees one below the threshold.
            self._forward(x, positions.new_zeros(1, 1), *args, **options)
        extended = torch.cat([positions, positions.new_tensor([max(0, length - 1)])])[None]
        angles = self._forward(x, extended, *args, **options)
        parts = angles if isinstance(angles, tuple) else (angles,)
        return tuple(part[0, :-1] for part in parts)


def _joined(
    angles: list[tuple[torch.Tensor, ...]], order: torch.Tensor, shape: torch.Size
) -> Angles:
    parts = tuple(
        torch.cat(one)[order].view(*shape, one[0].shape[-1]) for one in zip(*angles, strict=True)
    )
    return parts if len(parts) > 1 else parts[0]
