"""Which rows of a call a module sees, and in which order, told from its inputs in some forwards."""

from dataclasses import dataclass
from typing import get_args

import torch

from service.base import RowMap

NOBODY = -1
"""Label of a row that is padding."""
_ROW_MAPS: tuple[RowMap, ...] = get_args(RowMap)


@dataclass(frozen=True, slots=True)
class Run:
    """One forward: the inputs of each module by path, one per time that the module was called."""

    inputs: dict[str, list[torch.Tensor]]
    rows: list[int]
    """Label of each row of the call: rows of two runs with one label hold the same token."""
    wanted: list[int]
    """Labels of the rows whose logits were wanted; not as many as `rows`."""

    def seen(self, path: str, row_map: RowMap) -> dict[int, torch.Tensor] | None:
        """By label, in the module's order, what it would have seen of each row under `row_map`."""
        inputs = self.inputs.get(path, [])
        if len(inputs) != 1 or (row_map == "heads" and inputs[0].ndim != 4):
            return None
        rows = inputs[0].transpose(1, 2) if row_map == "heads" else inputs[0]
        labels = self.wanted if row_map == "wanted" else self.rows
        for dim in range(rows.ndim, 0, -1):
            if rows.shape[:dim].numel() == len(labels):
                by_row = rows.reshape(len(labels), -1)
                return dict(zip(labels, by_row, strict=True))
        return None


def independent_row_map(path: str, straight: Run, shuffled: Run) -> RowMap | None:
    """Of a module in two runs of the same tokens in another order, whose rows do not interact."""
    for row_map in _ROW_MAPS:
        before, after = straight.seen(path, row_map), shuffled.seen(path, row_map)
        if before is None or after is None:
            continue
        common = [label for label in before if label in after and label != NOBODY]
        left, right = (torch.stack([one[label] for label in common]) for one in (before, after))
        if _is_distinct(left) and torch.allclose(left, right, rtol=5e-2, atol=1e-2):
            return row_map
    return None


def causal_row_map(path: str, base: Run, changed: list[Run]) -> RowMap | None:
    """Of a module in runs of one sequence; in `changed[j]` token j is another one.

    A module sees the sequence in order if the first of its rows that changes is that of token j, or
    of the first wanted token that is not before it.
    """
    for row_map in _ROW_MAPS:
        before = base.seen(path, row_map)
        if before is None:
            continue
        expected = [
            next((label for label in before if label >= token), None)
            for token in range(len(changed))
        ]
        if [_first_change(before, run.seen(path, row_map)) for run in changed] == expected:
            return row_map
    return None


def _first_change(
    before: dict[int, torch.Tensor], after: dict[int, torch.Tensor] | None
) -> int | None:
    for label, row in before.items():
        if after is not None and not torch.allclose(row, after[label], rtol=1e-2, atol=1e-3):
            return label
    return None


def _is_distinct(rows: torch.Tensor) -> bool:
    return len(rows) > 1 and not torch.allclose(rows, rows.roll(1, 0), rtol=1e-2, atol=1e-3)
