"""What a kind hands to the compiler: tensors that are computed only while they are written."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

from service.adapters.compiled import CompiledHeader, SiteTerms, TermView, align
from service.adapters.manifest import Form
from service.compiler.arrays import DTYPES, Array


@dataclass(frozen=True, slots=True)
class Term:
    dtype: str
    shape: tuple[int, ...]
    make: Callable[[], Array]
    """Called once, while writing; one term at a time bounds the memory."""
    follows_base: bool = True
    """The dtype is the run dtype; otherwise it is the same on every base."""
    key: object = None
    """Terms with the same key are written once and shared by the sites."""

    @property
    def is_vector(self) -> bool:
        return self.dtype == "float32" and not self.follows_base

    @property
    def num_elements(self) -> int:
        return prod(self.shape)

    @property
    def num_bytes(self) -> int:
        return self.num_elements * DTYPES[self.dtype].itemsize


def vector(array: Array) -> Term:
    """A float32 term that is there already."""
    return Term("float32", array.shape, lambda: array, follows_base=False)


@dataclass(frozen=True, slots=True)
class SitePlan:
    """See `SiteTerms`, whose fields these become."""

    site: str
    terms: dict[str, Term] = field(default_factory=dict)
    parameters: dict[str, Term] = field(default_factory=dict)
    layer: Any = None
    layer_tensors: tuple[Term, ...] = ()

    def tensors(self) -> Iterator[Term]:
        yield from self.terms.values()
        yield from self.parameters.values()
        yield from self.layer_tensors


@dataclass(frozen=True, slots=True)
class UsedTensor:
    """A tensor of the upload that decides what the version does."""

    name: str
    dtype: str
    array: Array


@dataclass(frozen=True, slots=True)
class FrontTokens:
    """What stands in front of every prompt, and where in the prompt the adapter begins."""

    num_virtual: int = 0
    num_prefix: int = 0
    num_tasks: int = 0
    invocation: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    kind: str
    rank: int
    config: dict[str, Any]
    """Canonical: only what has an effect, in the form in which it has it."""
    tensors: tuple[UsedTensor, ...]
    sites: tuple[SitePlan, ...]
    warnings: tuple[str, ...] = ()
    tables: dict[str, Term] = field(default_factory=dict)
    front: FrontTokens = FrontTokens()
    adds_biases: bool = False
    """Every `d` is a bias that the adapter learned beside the base's, not one in its place."""

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(sorted({plan.site.rpartition(".")[2] for plan in self.sites}))

    @property
    def form(self) -> Form:
        return "module" if any(plan.layer is not None for plan in self.sites) else "terms"

    @property
    def is_summable(self) -> bool:
        """Whether the whole version is what stacking can sum: A, B and learned biases.

        A tensor that sites share would be copied to each, beyond the size that a sum is given.
        """
        is_elsewhere = self.tables or self.front != FrontTokens()
        num_shared = sum(1 for _ in self._tensors()) - sum(1 for _ in self.written())
        return not (is_elsewhere or num_shared) and all(map(self._is_low_rank, self.sites))

    def _is_low_rank(self, plan: SitePlan) -> bool:
        allowed = {"a", "b", "d"} if self.adds_biases else {"a", "b"}
        return plan.layer is None and not plan.parameters and set(plan.terms) <= allowed

    def written(self) -> Iterator[Term]:
        """Every tensor of the payload once, in the order of the payload."""
        seen: set[object] = set()
        for term in self._tensors():
            if term.key is None or term.key not in seen:
                seen.add(term.key)
                yield term

    def low_rank_sizes(self) -> tuple[tuple[int, int], ...]:
        """This and the next two: see `Manifest`."""
        return _counts(term.num_elements for term in self.written() if term.follows_base)

    def vector_sizes(self) -> tuple[tuple[int, int], ...]:
        return _counts(term.num_elements for term in self.written() if term.is_vector)

    def byte_sizes(self) -> tuple[tuple[int, int], ...]:
        others = (term for term in self.written() if not (term.follows_base or term.is_vector))
        return _counts(term.num_bytes for term in others)

    def header(self, digest: str, fingerprint: str, dtype: str) -> CompiledHeader:
        layout = _Layout()
        sites = tuple(
            SiteTerms(
                site=plan.site,
                terms=layout.place_all(plan.terms),
                parameters=layout.place_all(plan.parameters),
                layer=plan.layer,
                layer_tensors=tuple(map(layout.place, plan.layer_tensors)),
            )
            for plan in self.sites
        )
        tables = layout.place_all(self.tables)
        return CompiledHeader(digest, fingerprint, dtype, layout.end, sites, tables)

    def chunks(self) -> Iterator[bytes]:
        """The payload, in the order of the header."""
        for term in self.written():
            data = term.make().astype(DTYPES[term.dtype], copy=False)
            yield data.tobytes()
            yield b"\0" * (align(term.num_bytes) - term.num_bytes)

    def _tensors(self) -> Iterator[Term]:
        for plan in self.sites:
            yield from plan.tensors()
        yield from self.tables.values()


class _Layout:
    """Gives every tensor its place, in the order in which `Plan.written` yields them."""

    def __init__(self) -> None:
        self.end = 0
        self._shared: dict[object, TermView] = {}

    def place_all(self, terms: dict[str, Term]) -> dict[str, TermView]:
        return {name: self.place(term) for name, term in terms.items()}

    def place(self, term: Term) -> TermView:
        if term.key in self._shared:
            return self._shared[term.key]
        view = TermView(term.dtype, term.shape, self.end)
        self.end += align(term.num_bytes)
        if term.key is not None:
            self._shared[term.key] = view
        return view


def _counts(sizes: Iterator[int]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(Counter(sizes).items()))
