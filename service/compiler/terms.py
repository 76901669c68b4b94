"""What a kind hands to the compiler: terms that are computed only while they are written."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from service.adapters.compiled import CompiledHeader, SiteTerms, TermView, align
from service.compiler.arrays import DTYPES, Array

TERM_NAMES = ("a", "b", "c", "d")
LOW_RANK_TERMS = ("a", "b")


@dataclass(frozen=True, slots=True)
class Term:
    dtype: str
    shape: tuple[int, ...]
    make: Callable[[], Array]
    """Called once, while writing; one term at a time bounds the memory."""

    @property
    def num_elements(self) -> int:
        return int(_product(self.shape))

    @property
    def num_bytes(self) -> int:
        return self.num_elements * DTYPES[self.dtype].itemsize


@dataclass(frozen=True, slots=True)
class SitePlan:
    site: str
    terms: dict[str, Term]
    """By the names of `TERM_NAMES`."""


@dataclass(frozen=True, slots=True)
class UsedTensor:
    """A tensor of the upload that decides what the version does."""

    name: str
    dtype: str
    array: Array


@dataclass(frozen=True, slots=True)
class Plan:
    kind: str
    rank: int
    config: dict[str, Any]
    """Canonical: only what has an effect, in the form in which it has it."""
    tensors: tuple[UsedTensor, ...]
    sites: tuple[SitePlan, ...]
    warnings: tuple[str, ...] = ()

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(sorted({plan.site.rpartition(".")[2] for plan in self.sites}))

    def sizes(self, *, is_low_rank: bool) -> tuple[tuple[int, int], ...]:
        counts = Counter(
            term.num_elements
            for plan in self.sites
            for name, term in plan.terms.items()
            if (name in LOW_RANK_TERMS) == is_low_rank
        )
        return tuple(sorted(counts.items()))

    def header(self, digest: str, fingerprint: str, dtype: str) -> CompiledHeader:
        sites: list[SiteTerms] = []
        position = 0
        for plan in self.sites:
            views: dict[str, TermView] = {}
            for name, term in plan.terms.items():
                views[name] = TermView(term.dtype, term.shape, position)
                position += align(term.num_bytes)
            sites.append(SiteTerms(plan.site, **views))
        return CompiledHeader(digest, fingerprint, dtype, position, tuple(sites))

    def chunks(self) -> Iterator[bytes]:
        """The payload, in the order of the header."""
        for plan in self.sites:
            for term in plan.terms.values():
                data = term.make().astype(DTYPES[term.dtype], copy=False)
                yield data.tobytes()
                yield b"\0" * (align(term.num_bytes) - term.num_bytes)


def _product(shape: tuple[int, ...]) -> int:
    result = 1
    for size in shape:
        result *= size
    return result
