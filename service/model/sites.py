"""Sites: modules of the base whose forward also applies the adapters of the step's rows."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from service.base import RowMap, SiteKind
from service.model.context import RowRuns, SlotRun, StepContext
from service.model.kernels import KERNEL_TERMS, TermKernel
from service.model.packing import PackedLinear
from service.operator.terms import TERM_NAMES, VECTORS, Terms


@dataclass(frozen=True, slots=True)
class SiteForm:
    """What one slot's adapter does at one site."""

    terms: Terms
    module: torch.nn.Module | None = None
    """Computes the adapter's rows in place of the base's module: peft's own layer, or the base's
    module with parameters of the adapter's."""


class Site:
    """The module stays where it is in the model; only its instance's `forward` is replaced, so
    paths, tied weights and everything else that looks at the module see the base unchanged."""

    def __init__(
        self,
        path: str,
        module: torch.nn.Module,
        rows: RowMap,
        context: StepContext,
        kind: SiteKind = "linear",
    ) -> None:
        self.path = path
        self.kind = kind
        self.rows = rows
        self.base = copy.copy(module)
        """The module itself, on the same parameters, free of adapters."""
        self._base_forward: Callable[[torch.Tensor], torch.Tensor] = module.forward
        self._context = context
        self._forms: dict[int, SiteForm] = {}
        self._kernel = None if context.kernels is None else context.kernels.terms
        self._table = None if self._kernel is None else self._kernel.table()
        self._foreign_slots: set[int] = set()
        """Of forms that the kernel does not know."""
        module.forward = self.forward

    def set_form(self, slot: int, form: SiteForm) -> bool:
        """Whether the kernel does all of it."""
        self._forms[slot] = form
        kernel, table = self._kernel, self._table
        if kernel and table and self.kind != "embedding" and _is_for(kernel, form):
            table.set(slot, form.terms)
            return True
        self._foreign_slots.add(slot)
        return False

    def drop_form(self, slot: int) -> None:
        self._forms.pop(slot, None)
        if self._table is not None:
            self._table.clear(slot)
        self._foreign_slots.discard(slot)

    def private_copy(self, parameters: dict[str, torch.Tensor]) -> torch.nn.Module:
        """The base's module with some parameters replaced."""
        module = copy.copy(self.base)
        # A packed weight is none of those that are replaced.
        module.__dict__.pop("forward", None)
        own = {
            name: torch.nn.Parameter(value, requires_grad=False)
            for name, value in parameters.items()
        }
        module._parameters = {**self.base._parameters, **own}
        return module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self._context.wanted if self.rows == "wanted" else self._context.rows
        if rows.is_captured:
            y = self._base_forward(x)
            self._apply_kernel(rows, x, y)
            return y
        if rows.slots.isdisjoint(self._forms):
            return self._base_forward(x)
        if self.rows == "heads":
            # Such modules act on the last dimension alone, so the rows may come first.
            return self._adapted(rows, x.transpose(1, 2).contiguous()).transpose(1, 2)
        return self._adapted(rows, x)

    def _adapted(self, rows: RowRuns, x: torch.Tensor) -> torch.Tensor:
        if not rows.slots.isdisjoint(self._foreign_slots):
            active = self._active(rows.runs)
            y = self._base_forward(self._transformed(active, rows.num_rows, x))
            self._apply(active, rows.num_rows, x, y)
            return y
        y, is_done = self._base_and_kernel(rows, x)
        if not is_done:
            self._apply(self._active(rows.runs), rows.num_rows, x, y)
        return y

    def _base_and_kernel(self, rows: RowRuns, x: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """The base's output; whether the kernel has applied the terms to it."""
        forward = self._base_forward
        if isinstance(forward, PackedLinear):
            y = forward.with_terms(x, rows.num_rows, self._table, rows.kernel_runs)
            if y is not None:
                return y, True
        y = forward(x)
        return y, self._apply_kernel(rows, x, y)

    def _apply_kernel(self, rows: RowRuns, x: torch.Tensor, y: torch.Tensor) -> bool:
        """False when all runs are left to the torch twin."""
        kernel, table = self._kernel, self._table
        if kernel is None or not kernel.takes(table, rows.num_rows, x, y):
            return False
        kernel.add_to(table, rows.kernel_runs, x, y)
        return True

    def _active(self, runs: Iterable[SlotRun]) -> list[tuple[SlotRun, SiteForm]]:
        return [(run, self._forms[run.slot]) for run in runs if run.slot in self._forms]

    def _transformed(
        self, active: list[tuple[SlotRun, SiteForm]], num_rows: int, x: torch.Tensor
    ) -> torch.Tensor:
        """`x`, or a copy of it in which the rows of some adapters are transformed."""
        if not any(form.terms.has_transform for _, form in active):
            return x
        changed = x.clone()
        rows = self._flat(changed, num_rows)
        for run, form in active:
            if form.terms.has_transform:
                rows[run.start : run.stop] = form.terms.transform(rows[run.start : run.stop])
        return changed

    def _apply(
        self,
        active: list[tuple[SlotRun, SiteForm]],
        num_rows: int,
        x: torch.Tensor,
        y: torch.Tensor,
    ) -> None:
        x = x.flatten() if self.kind == "embedding" else self._flat(x, num_rows)
        y = self._flat(y, num_rows)
        for run, form in active:
            here = y[run.start : run.stop]
            if form.module is not None:
                here.copy_(form.module(x[None, run.start : run.stop])[0])
            if self.kind == "embedding":
                form.terms.add_to_embeddings(here, x[run.start : run.stop])
            else:
                form.terms.add_to(here, x[run.start : run.stop], run.task)
        if self.kind == "embedding":
            for row in self._context.virtual_rows:
                prompt = self._forms[row.slot].terms.prompt
                assert prompt is not None, "virtual rows belong to adapters with a prompt"
                y[row.row] = prompt[row.index]

    def _flat(self, tensor: torch.Tensor, num_rows: int) -> torch.Tensor:
        """A view whose first dimension is the step's rows: leading dimensions are joined."""
        for dim in range(tensor.ndim - 1, 0, -1):
            if tensor.shape[:dim].numel() == num_rows:
                return tensor.view(num_rows, *tensor.shape[dim:])
        raise RuntimeError(f"{self.path} saw {list(tensor.shape)}, which is not {num_rows} rows")


def _is_for(kernel: TermKernel, form: SiteForm) -> bool:
    if form.module is not None:
        return False
    present = {name: getattr(form.terms, name) for name in TERM_NAMES}
    tensors = {name: tensor for name, tensor in present.items() if tensor is not None}
    return set(tensors) <= KERNEL_TERMS and all(
        tensor.is_contiguous()
        and tensor.dtype == (torch.float32 if name in VECTORS else kernel.dtype)
        for name, tensor in tensors.items()
    )
