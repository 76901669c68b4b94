"""The operator: what adapters add at one module of the base, for all rows of a step in one call.

For a row x of adapter a: `y = c * base(x) + (x A^T) B^T + d`. The base product is shared by all
rows; a term that a version does not use is absent and costs nothing.
"""

from dataclasses import dataclass

import torch

from service.core import RowMap
from service.model.context import SlotRun, StepContext


@dataclass(frozen=True, slots=True)
class Terms:
    """One version's terms at one site: views on its slot in the device arena."""

    a: torch.Tensor | None
    """[r, in]"""
    b: torch.Tensor | None
    """[out, r], scale folded in"""
    c: torch.Tensor | None
    """[out] float32"""
    d: torch.Tensor | None
    """[out] float32"""

    def add_to(self, y: torch.Tensor, x: torch.Tensor) -> None:
        """Turn `y = base(x)` into the adapter's output, in place. `x [n, in]`, `y [n, out]`."""
        if self.c is not None:
            y.mul_(self.c)
        if self.a is not None and self.b is not None:
            y.addmm_(x @ self.a.t(), self.b.t())
        if self.d is not None:
            y.add_(self.d)


class Site:
    """A linear module of the base whose `forward` also applies the terms of the step's adapters.

    The module stays where it is in the model; only its instance's `forward` is replaced, so paths,
    tied weights and everything else that looks at the module see the base unchanged.
    """

    def __init__(self, path: str, module: torch.nn.Module, rows: RowMap, ctx: StepContext) -> None:
        self.path = path
        self.rows = rows
        self._base_forward = module.forward
        self._context = ctx
        self._terms: dict[int, Terms] = {}
        module.forward = self.forward

    def set_terms(self, slot: int, terms: Terms) -> None:
        self._terms[slot] = terms

    def drop_terms(self, slot: int) -> None:
        self._terms.pop(slot, None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self._base_forward(x)
        if self._terms:
            runs, num_rows = self._rows()
            if runs:
                self._add_terms(runs, num_rows, x, y)
        return y

    def _rows(self) -> tuple[list[SlotRun], int]:
        if self.rows == "all":
            return self._context.runs, self._context.num_rows
        return self._context.wanted_runs, self._context.num_wanted

    def _add_terms(
        self, runs: list[SlotRun], num_rows: int, x: torch.Tensor, y: torch.Tensor
    ) -> None:
        x, y = x.reshape(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        if x.shape[0] != num_rows:
            raise RuntimeError(f"{self.path} saw {x.shape[0]} rows where {num_rows} were expected")
        for run in runs:
            terms = self._terms.get(run.slot)
            if terms is not None:
                terms.add_to(y[run.start : run.stop], x[run.start : run.stop])
