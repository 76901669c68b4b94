"""One call as data: what is sent, and what its answer is read as."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from service.client.errors import InvalidCall
from service.client.results.base import Page, Result
from service.client.upload import Upload

R = TypeVar("R", bound=Result)

LONG_S = 900.0
"""For calls that wait for a compile, a comparison with peft or a cold load."""


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    method: str
    path: str
    result: type[R]
    query: Mapping[str, str | int | Sequence[str] | None] = field(default_factory=dict)
    """Without those that are None; a sequence is the parameter several times."""
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    upload: Upload | None = None
    is_repeatable: bool = True
    """Whether sending it twice comes to the same as once."""
    timeout_s: float | None = None
    """Until the answer begins; None = the client's own."""
    answers: frozenset[int] = frozenset()
    """Statuses from 400 on that are an answer here and no error."""


@dataclass(frozen=True, slots=True)
class Listing(Generic[R]):
    """Pages of results, each beginning after the last entry of the one before."""

    first: Call[Page[R]]
    cursor: Callable[[R], str | int]

    def after(self, entry: R) -> Call[Page[R]]:
        return replace(self.first, query={**self.first.query, "after": self.cursor(entry)})


@dataclass(frozen=True, slots=True)
class Watch(Generic[R]):
    """The same call again and again, until what it answers with is over."""

    call: Call[R]
    is_over: Callable[[R], bool]
    on_progress: Callable[[R], object] | None = None
    every_s: float = 0.5


def segment(name: str) -> str:
    """A name as one part of a path, whatever it holds. Raises `InvalidCall` for none at all."""
    if name in ("", ".", ".."):
        raise InvalidCall(f"{name!r} is no name.")
    return quote(name, safe="@:")
