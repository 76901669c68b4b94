"""From the description of a call to a method that makes it; the parameters stay the same."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Generic, ParamSpec, Protocol, TypeVar

from service.client.call import Call, Listing
from service.client.results.base import Result
from service.client.transport import AsyncTransport, SyncTransport

P = ParamSpec("P")
R = TypeVar("R", bound=Result)


class Sync(Protocol):
    @property
    def transport(self) -> SyncTransport: ...


class Async(Protocol):
    @property
    def transport(self) -> AsyncTransport: ...


@dataclass(frozen=True)
class Sends(Generic[P, R]):
    describe: Callable[P, Call[R]]

    def __get__(self, owner: Sync, kind: type[object]) -> Callable[P, R]:
        @wraps(self.describe)
        def method(*args: P.args, **kwargs: P.kwargs) -> R:
            return owner.transport.send(self.describe(*args, **kwargs))

        return method


@dataclass(frozen=True)
class Lists(Generic[P, R]):
    describe: Callable[P, Listing[R]]

    def __get__(self, owner: Sync, kind: type[object]) -> Callable[P, Iterator[R]]:
        @wraps(self.describe)
        def method(*args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
            return owner.transport.pages(self.describe(*args, **kwargs))

        return method


@dataclass(frozen=True)
class AsyncSends(Generic[P, R]):
    describe: Callable[P, Call[R]]

    def __get__(self, owner: Async, kind: type[object]) -> Callable[P, Awaitable[R]]:
        @wraps(self.describe)
        def method(*args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
            return owner.transport.send(self.describe(*args, **kwargs))

        return method


@dataclass(frozen=True)
class AsyncLists(Generic[P, R]):
    describe: Callable[P, Listing[R]]

    def __get__(self, owner: Async, kind: type[object]) -> Callable[P, AsyncIterator[R]]:
        @wraps(self.describe)
        def method(*args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R]:
            return owner.transport.pages(self.describe(*args, **kwargs))

        return method
