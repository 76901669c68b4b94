"""A weighted sum of low-rank adapters as one compiled adapter, by stacking their factors:

    sum_i w_i B_i A_i = [w_1 B_1 | w_2 B_2 | ...] [A_1; A_2; ...]        d = sum_i w_i d_i

Exact for any ranks and scalings, since each B has its own scaling folded in. Averaging the factors
themselves would be something else: (B_1 + B_2) (A_1 + A_2) has mixed products in it.
"""

from collections.abc import Iterable, Sequence
from math import prod
from typing import TypeVar

import torch

from service.adapters.compiled import CompiledHeader, SiteTerms, TermView, align
from service.core import AdapterRef
from service.errors import AdapterLoadFailed, InvalidRequest
from service.model.host_adapter import HostAdapter, view_of

_T = TypeVar("_T")


class SumBuilder:
    """Takes the parts one by one, so that only one of them is in memory beside the sum."""

    def __init__(
        self, ref: AdapterRef, headers: Sequence[CompiledHeader], pin_memory: bool = False
    ) -> None:
        """`headers` of the parts, in the order in which they are added."""
        header = _layout(ref, headers)
        payload = torch.zeros(header.payload_bytes, dtype=torch.uint8, pin_memory=pin_memory)
        self.adapter = HostAdapter(header, payload)
        """The sum, once every part has been added."""
        self._sites = {
            site.site: {name: view_of(payload, view) for name, view in site.terms.items()}
            for site in header.sites
        }
        self._ranks = dict.fromkeys(self._sites, 0)
        """Rows of A, and columns of B, that are filled, by site."""

    def add(self, part: HostAdapter, weight: float) -> None:
        """Raises `InvalidRequest` when the weight leads out of the range of the dtype."""
        for site in part.header.sites:
            theirs = {name: view_of(part.payload, view) for name, view in site.terms.items()}
            ours = self._sites[site.site]
            if "a" in theirs:
                first = self._ranks[site.site]
                last = self._ranks[site.site] = first + len(theirs["a"])
                ours["a"][first:last] = theirs["a"]
                ours["b"][:, first:last] = _weighted(theirs["b"], weight)
            if "d" in theirs:
                ours["d"].add_(_weighted(theirs["d"], weight))


def _layout(ref: AdapterRef, headers: Sequence[CompiledHeader]) -> CompiledHeader:
    if not all(map(_is_low_rank, headers)):
        raise AdapterLoadFailed("An adapter in the sum has more than low-rank matrices.")
    found: dict[str, list[dict[str, TermView]]] = {}
    for header in headers:
        for site in header.sites:
            found.setdefault(site.site, []).append(site.terms)
    end = 0
    sites: list[SiteTerms] = []
    for path, parts in found.items():
        terms: dict[str, TermView] = {}
        for name, shape in _shapes(parts).items():
            dtype = _only(part[name].dtype for part in parts if name in part)
            terms[name] = TermView(dtype, shape, end)
            end += align(prod(shape) * getattr(torch, dtype).itemsize)
        sites.append(SiteTerms(path, terms))
    if end > ref.compiled_bytes:
        raise AdapterLoadFailed("The sum is larger than its parts.")
    one = headers[0]
    return CompiledHeader(ref.digest, one.fingerprint, one.dtype, ref.compiled_bytes, tuple(sites))


def _is_low_rank(header: CompiledHeader) -> bool:
    """Versions that are not were refused before; this is the last chance to drop nothing."""
    has_modules = any(site.layer is not None or site.parameters for site in header.sites)
    has_others = any(set(site.terms) - {"a", "b", "d"} for site in header.sites)
    return not (header.tables or has_modules or has_others)


def _shapes(parts: Sequence[dict[str, TermView]]) -> dict[str, tuple[int, ...]]:
    """Of the stacked terms at one site."""
    shapes: dict[str, tuple[int, ...]] = {}
    factors = [part for part in parts if "a" in part]
    if factors:
        rank = sum(part["a"].shape[0] for part in factors)
        shapes["a"] = (rank, _only(part["a"].shape[1] for part in factors))
        shapes["b"] = (_only(part["b"].shape[0] for part in factors), rank)
    biases = [part["d"].shape for part in parts if "d" in part]
    if biases:
        shapes["d"] = _only(biases)
    return shapes


def _only(values: Iterable[_T]) -> _T:
    """What all of them are."""
    first, *rest = set(values)
    if rest:
        raise AdapterLoadFailed("The adapters in the sum were compiled for different bases.")
    return first


def _weighted(tensor: torch.Tensor, weight: float) -> torch.Tensor:
    """Rounded once; a weight of one changes no bit."""
    if weight == 1:
        return tensor
    result = (tensor.float() * weight).to(tensor.dtype)
    if not result.isfinite().all():
        dtype = str(tensor.dtype).removeprefix("torch.")
        message = f"An adapter times its weight {weight!r} does not fit into {dtype}."
        raise InvalidRequest(message, "adapters")
    return result
