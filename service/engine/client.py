"""The engine as the handlers see it; whether it is a thread or a process is not theirs to know."""

from collections.abc import AsyncIterator
from typing import Protocol

from service.core import EngineStats, GenerationRequest, TokenEvent


class TokenStream(Protocol):
    """Events of one sequence, ending with a terminal one. Must be closed; closing early aborts."""

    def __aiter__(self) -> AsyncIterator[TokenEvent]: ...

    async def __anext__(self) -> TokenEvent: ...

    async def aclose(self) -> None:
        """Abort the sequence if it still runs: at most one further step is computed for it."""


class EngineClient(Protocol):
    """All methods are called on the event loop and return without waiting for a step."""

    def submit(self, request: GenerationRequest) -> TokenStream:
        """Queue one sequence.

        Raises `Overloaded` when the inbox is full, `Draining` after `drain`, `EngineFailed` when
        the engine thread is dead. An event with `error` reports a failure of this sequence alone.
        """

    def unload(self, digest: str) -> None:
        """Forget a version in every memory tier as soon as no sequence uses it."""

    def stats(self) -> EngineStats: ...

    @property
    def is_healthy(self) -> bool:
        """False once the engine thread has died."""
