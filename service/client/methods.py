"""From the description of a call to a method that makes it; the parameters stay the same.

One method serves both kinds of client: what it answers with is what the owner's transport does.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from service.client.call import Call, Listing, Watch
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

    @overload
    def __get__(self, owner: Sync, kind: type[object]) -> Callable[P, R]: ...
    @overload
    def __get__(self, owner: Async, kind: type[object]) -> Callable[P, Awaitable[R]]: ...
    def __get__(self, owner: Sync | Async, kind: type[object]) -> Callable[P, Any]:
        @wraps(self.describe)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return owner.transport.send(self.describe(*args, **kwargs))

        return method


@dataclass(frozen=True)
class Watches(Generic[P, R]):
    describe: Callable[P, Watch[R]]

    @overload
    def __get__(self, owner: Sync, kind: type[object]) -> Callable[P, R]: ...
    @overload
    def __get__(self, owner: Async, kind: type[object]) -> Callable[P, Awaitable[R]]: ...
    def __get__(self, owner: Sync | Async, kind: type[object]) -> Callable[P, Any]:
        @wraps(self.describe)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return owner.transport.watch(self.describe(*args, **kwargs))

        return method


@dataclass(frozen=True)
class Lists(Generic[P, R]):
    describe: Callable[P, Listing[R]]

    @overload
    def __get__(self, owner: Sync, kind: type[object]) -> Callable[P, Iterator[R]]: ...
    @overload
    def __get__(self, owner: Async, kind: type[object]) -> Callable[P, AsyncIterator[R]]: ...
    def __get__(self, owner: Sync | Async, kind: type[object]) -> Callable[P, Any]:
        @wraps(self.describe)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return owner.transport.pages(self.describe(*args, **kwargs))

        return method
