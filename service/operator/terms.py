"""The operator: what one adapter version does to its rows at one site, as a sum of optional terms.

    y = c * base(T(x)) + turn * base(T(x))[partner] + (x A^T) B^T + f(x) + d

The run time knows terms, never kinds of adapters. Terms act on the rows of their own adapter only,
so a row's result does not depend on what else is in the batch.
"""

from dataclasses import dataclass, fields

import torch
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Terms:
    """Absent terms cost nothing. Matrices are in the run dtype, vectors in float32.

    At an embedding `x` is token ids and `in` the vocabulary.
    """

    a: torch.Tensor | None = None
    """`[r, in]`"""
    b: torch.Tensor | None = None
    """`[out, r]`, scale folded in"""
    inner: torch.Tensor | None = None
    """`[r]`: factors between A and B (VeRA's `lambda_d` beside a bank that sites share)"""
    outer: torch.Tensor | None = None
    """`[out]`: factors behind B (VeRA's `lambda_b`)"""
    c: torch.Tensor | None = None
    """`[out]`"""
    d: torch.Tensor | None = None
    """`[out]`"""
    scale: torch.Tensor | None = None
    """`[in]`: T multiplies by it"""
    rotation: torch.Tensor | None = None
    """`[in / n or 1, n, n]`: T multiplies each block of n inputs by its own (or the one) matrix"""
    mix_a: torch.Tensor | None = None
    """`[q, in]`, with `mix_b`: T is `x + (x mix_a^T) mix_b^T`"""
    mix_b: torch.Tensor | None = None
    """`[in, q]`"""
    turn: torch.Tensor | None = None
    """`[out]`, with `partner`: rotations of pairs of outputs"""
    partner: torch.Tensor | None = None
    """`[out]` int64"""
    kron_left: torch.Tensor | None = None
    """`[o1, i1]`, with `kron_right`: f is the product with their Kronecker product"""
    kron_right: torch.Tensor | None = None
    """`[o2, i2]`"""
    columns: torch.Tensor | None = None
    """`[n]` int64, with `column_weight`: outputs that have a weight of their own"""
    column_weight: torch.Tensor | None = None
    """`[n, in]`"""
    rows: torch.Tensor | None = None
    """`[n]` int64, with `row_values`: token ids whose embedding is replaced"""
    row_values: torch.Tensor | None = None
    """`[n, out]`"""
    task_a: torch.Tensor | None = None
    """`[tasks, r, in]`, with `task_b`: A and B of each task of a multitask adapter"""
    task_b: torch.Tensor | None = None
    """`[tasks, out, r]`"""
    prompt: torch.Tensor | None = None
    """`[tasks * n, out]`: embeddings of virtual tokens, put into rows by `StepContext`"""

    @property
    def has_transform(self) -> bool:
        return not (self.scale is None and self.rotation is None and self.mix_a is None)

    def transform(self, x: torch.Tensor) -> torch.Tensor:
        """T of `x [n, in]`, as a new tensor."""
        if self.scale is not None:
            x = (x * self.scale).to(x.dtype)
        if self.rotation is not None:
            size = self.rotation.shape[-1]
            x = (x.view(len(x), -1, 1, size) @ self.rotation).view(x.shape)
        if self.mix_a is not None and self.mix_b is not None:
            x = x + (x @ self.mix_a.t()) @ self.mix_b.t()
        return x

    def add_to(self, y: torch.Tensor, x: torch.Tensor, task: int = 0) -> None:
        """Turn `y = base(T(x))` into the adapter's output, in place. `x [n, in]`, `y [n, out]`."""
        if self.c is not None:
            self._scale_outputs(y, self.c)
        if self.a is not None and self.b is not None:
            self._add_low_rank(y, x, self.a, self.b)
        if self.task_a is not None and self.task_b is not None:
            y.addmm_(x @ self.task_a[task].t(), self.task_b[task].t())
        if self.kron_left is not None and self.kron_right is not None:
            left, right = self.kron_left, self.kron_right
            blocks = x.reshape(len(x), left.shape[1], right.shape[1])
            y.add_((left @ blocks @ right.t()).flatten(1))
        if self.d is not None:
            y.add_(self.d)
        if self.columns is not None and self.column_weight is not None:
            y[:, self.columns] = x @ self.column_weight.t()

    def add_to_embeddings(self, y: torch.Tensor, ids: torch.Tensor) -> None:
        """The same at an embedding. `ids [n]`, `y [n, out]`."""
        if self.c is not None:
            y.mul_(self.c)
        if self.a is not None and self.b is not None:
            y.add_(functional.embedding(ids, self.a.t()) @ self.b.t())
        if self.rows is not None and self.row_values is not None:
            hits = ids[:, None] == self.rows
            place = hits.any(1)
            y[place] = self.row_values[hits[place].int().argmax(1)]

    def _scale_outputs(self, y: torch.Tensor, c: torch.Tensor) -> None:
        if self.turn is None or self.partner is None:
            y.mul_(c)
        else:
            y.copy_(y * c + y[:, self.partner] * self.turn)

    def _add_low_rank(
        self, y: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor
    ) -> None:
        hidden = x @ a.t()
        if self.inner is not None:
            hidden = (hidden * self.inner).to(hidden.dtype)
        if self.outer is None:
            y.addmm_(hidden, b.t())
        else:
            y.add_((hidden @ b.t()) * self.outer)


TERM_NAMES = frozenset(one.name for one in fields(Terms))
VECTORS = frozenset({"inner", "outer", "c", "d", "scale", "turn"})
"""Terms that are float32 whatever the run dtype."""
INDICES = frozenset({"partner", "columns", "rows"})
