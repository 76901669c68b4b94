"""Tensors as terms of a plan: dtypes, ranges, and which of them are the same."""

from functools import partial

import torch

from service.compiler.arrays import Array
from service.compiler.refusals import Refusals
from service.compiler.terms import Term
from service.operator.terms import INDICES, VECTORS

Tensors = dict[str, torch.Tensor]


class TermMaker:
    def __init__(self, dtype: str, refusals: Refusals) -> None:
        """`dtype`: the run dtype, of the terms that follow the base."""
        self._dtype = dtype
        self._refusals = refusals

    def terms(self, tensors: Tensors) -> dict[str, Term]:
        return {name: self.term(name, tensor) for name, tensor in tensors.items()}

    def term(self, name: str, tensor: torch.Tensor) -> Term:
        """Adds a refusal where the values do not fit."""
        is_own = name in VECTORS or name in INDICES
        dtype = tensor.dtype if is_own else getattr(torch, self._dtype)
        if not tensor.to(dtype).isfinite().all():
            message = f"The {name!r} of the adapter does not fit into {dtype}."
            self._refusals.add("out_of_range", name, message.replace("torch.", ""))
        if is_own:
            return own_term(tensor)
        array = tensor.detach().float().contiguous().numpy()
        return Term(self._dtype, tuple(tensor.shape), partial(_same, array), key=_View(tensor))


def own_term(tensor: torch.Tensor) -> Term:
    """A tensor that keeps its dtype on every base; small floats widen to float32."""
    is_small = tensor.is_floating_point() and tensor.dtype is not torch.float64
    wide = tensor.detach().float() if is_small else tensor.detach()
    make = partial(_same, wide.contiguous().numpy())
    dtype = str(wide.dtype).removeprefix("torch.")
    return Term(dtype, tuple(tensor.shape), make, follows_base=False, key=_View(tensor))


def tensor_of(term: Term) -> torch.Tensor:
    return torch.from_numpy(term.make())


class _View:
    """A term's key: equal for the same view on the same memory, which it keeps from being freed and
    then taken for that of another tensor."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor

    def _place(self) -> object:
        tensor = self._tensor
        return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _View) and self._place() == other._place()

    def __hash__(self) -> int:
        return hash(self._place())


def _same(array: Array) -> Array:
    return array
