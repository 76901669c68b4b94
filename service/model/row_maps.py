"""Which rows of a call a module sees, and in which order, told from its inputs in some forwards."""

from dataclasses import dataclass

import torch

from service.core import RowMap

NOBODY = -1
"""Label of a row that is padding."""


@dataclass(frozen=True, slots=True)
class Run:
    """One forward: the inputs of each module by path, one per time that the module was called."""

    inputs: dict[str, list[torch.Tensor]]
    rows: list[int]
    """Label of each row of the call: rows of two runs with one label hold the same token."""
    wanted: list[int]
    """Labels of the rows whose logits were wanted; not as many as `rows`."""

    def of(self, path: str) -> torch.Tensor | None:
        """`[n, everything else]`, n the number of all rows or of the wanted ones."""
        inputs = self.inputs.get(path, [])
        if len(inputs) != 1:
            return None
        for dim in range(inputs[0].ndim, 0, -1):
            count = inputs[0].shape[:dim].numel()
            if count in (len(self.rows), len(self.wanted)):
                return inputs[0].reshape(count, -1)
        return None

    def labels(self, count: int, row_map: RowMap) -> list[int] | None:
        labels = self.rows if row_map == "all" else self.wanted
        return labels if len(labels) == count else None


def independent_row_map(path: str, straight: Run, shuffled: Run) -> RowMap | None:
    """Of a module in two runs of the same tokens in another order, whose rows do not interact."""
    before, after = straight.of(path), shuffled.of(path)
    if before is None or after is None:
        return None
    for row_map in ("all", "wanted"):
        here, there = straight.labels(len(before), row_map), shuffled.labels(len(after), row_map)
        if here is None or there is None:
            continue
        common = [label for label in here if label in there and label != NOBODY]
        left = before[[here.index(label) for label in common]]
        right = after[[there.index(label) for label in common]]
        if _is_distinct(left) and torch.allclose(left, right, rtol=5e-2, atol=1e-2):
            return row_map
    return None


def causal_row_map(path: str, base: Run, changed: list[Run]) -> RowMap | None:
    """Of a module in runs of one sequence; in `changed[j]` token j is another one.

    A module sees the sequence in order if the first of its rows that changes is that of token j, or
    of the first wanted token that is not before it.
    """
    before = base.of(path)
    if before is None:
        return None
    for row_map in ("all", "wanted"):
        labels = base.labels(len(before), row_map)
        if labels is None:
            continue
        expected = [
            next((place for place, label in enumerate(labels) if label >= token), None)
            for token in range(len(changed))
        ]
        if [_first_change(before, run.of(path)) for run in changed] == expected:
            return row_map
    return None


def _first_change(before: torch.Tensor, after: torch.Tensor | None) -> int | None:
    if after is None or before.shape != after.shape:
        return None
    is_close = torch.isclose(before, after, rtol=1e-2, atol=1e-3).all(1)
    changed = (~is_close).nonzero()
    return int(changed[0]) if len(changed) else None


def _is_distinct(rows: torch.Tensor) -> bool:
    return len(rows) > 1 and not torch.allclose(rows, rows.roll(1, 0), rtol=1e-2, atol=1e-3)
