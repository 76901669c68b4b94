"""What a device has for the rows of a step, in place of torch: C++ on a processor, Triton on a GPU.

Tables are opaque: whoever makes one is the only one who reads it. Everything has a twin in torch,
which does what a kernel does not take.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from service.operator.terms import Terms
from service.step import Segment

KERNEL_TERMS = frozenset({"a", "b", "c", "d"})


@dataclass(frozen=True, slots=True)
class LayerCache:
    """Keys and values of one layer, `[token slots, heads, dim]` each."""

    keys: torch.Tensor
    values: torch.Tensor
    block_size: int


class TermTable(Protocol):
    """Where each slot's terms lie, for one site. The tensors are kept alive by the site's forms."""

    def set(self, slot: int, terms: Terms) -> None: ...

    def clear(self, slot: int) -> None: ...


class TermKernel(Protocol):
    """`KERNEL_TERMS` of the operator; the twin is `Terms.add_to`."""

    @property
    def dtype(self) -> torch.dtype: ...

    def table(self) -> TermTable: ...

    def runs(self, runs: Sequence[tuple[int, int, int]]) -> Any:
        """Runs of a step, made once and read at every site: (slot, first row, one past the last
        row) of each."""

    def takes(self, table: Any, num_rows: int, x: torch.Tensor, y: torch.Tensor) -> bool:
        """Whether these are `num_rows` rows of the site, whatever their leading dimensions."""

    def add_to(self, table: Any, runs: Any, x: torch.Tensor, y: torch.Tensor) -> None:
        """As `Terms.add_to` for the rows of each run, of what `takes` takes."""


class AttentionKernel(Protocol):
    """Attention over the paged store; the twin is `attend` of model/attention.py."""

    @property
    def dtype(self) -> torch.dtype: ...

    def rows(self, segments: Sequence[Segment]) -> Any:
        """Rows of a step, made once and read at every layer: all of these segments."""

    def takes(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool: ...

    def write_and_attend(
        self,
        rows: Any,
        slots: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        cache: LayerCache,
        out: torch.Tensor,
        options: dict[str, Any],
    ) -> None:
        """Store `key`, `value` of every row at `slots [T]`, then set `rows` in `out [T, H, Dv]`,
        contiguous. All three are `[1, heads, T, dim]`, and options have names, as transformers
        hands them over."""


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """A linear module's weight where oneDNN keeps it, in a layout that only oneDNN knows."""

    address: int
    num_bytes: int
    num_in: int
    num_out: int
    bias: torch.Tensor | None


class LinearKernel(Protocol):
    """Linear modules on few rows; the twin is torch's own."""

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def max_rows(self) -> int:
        """More are left to oneDNN."""

    def weight(self, packed: PackedWeight) -> Any | None:
        """None where it cannot be in the layout that the kernel reads. Otherwise it may be: whoever
        asks compares products."""

    def takes(self, weight: Any, x: torch.Tensor) -> bool: ...

    def multiply(
        self, weight: Any, x: torch.Tensor, table: Any = None, runs: Any = None
    ) -> torch.Tensor:
        """The module's output for an `x` that `takes` takes, and with `table` and `runs` also as
        `TermKernel.add_to`."""


@dataclass(frozen=True, slots=True)
class NormForm:
    """What norms by the root of the mean square differ in."""

    rounds_first: bool = False
    """To the run dtype, before the weight is multiplied."""
    adds_one: bool = False
    """To the weight."""


class NormKernel(Protocol):
    """One norm on its weight."""

    def takes(self, x: torch.Tensor) -> bool: ...

    def __call__(self, x: torch.Tensor) -> torch.Tensor: ...


class ElementwiseKernel(Protocol):
    """What a model computes between its products, in one pass each; twins are in
    elementwise_twin.py."""

    @property
    def dtype(self) -> torch.dtype: ...

    def norm(self, weight: torch.Tensor, eps: float, form: NormForm) -> NormKernel: ...

    def takes_gate(self, gate: torch.Tensor, up: torch.Tensor) -> bool: ...

    def gated(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """`silu(gate) * up`, of what `takes_gate` takes."""

    def takes_heads(
        self, query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> bool: ...

    def rotated(
        self, query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`query, key [B, heads, T, dim]` turned by `cos, sin [B, T, dim]`, of what `takes_heads`
        takes."""


@dataclass(frozen=True, slots=True)
class Kernels:
    terms: TermKernel
    attention: AttentionKernel
    linear: LinearKernel | None = None
    elementwise: ElementwiseKernel | None = None
