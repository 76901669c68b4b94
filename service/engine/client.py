"""The engine as the handlers see it; whether it is a thread or a process is not theirs to know."""

import secrets
from collections.abc import AsyncIterator, Iterable
from typing import Protocol

from service.core import (
    AdapterRef,
    EngineStats,
    GenerationRequest,
    MemoryTier,
    SamplingParams,
    TokenEvent,
)
from service.engine.activity import Activity
from service.tenancy import DEFAULT_TENANT


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

    def pin(self, refs: Iterable[AdapterRef]) -> None:
        """Keep these versions, and no others, in host memory whether they are used or not."""

    def cut_off(self) -> None:
        """End every open sequence with `Draining`, and refuse new ones."""

    def stats(self) -> EngineStats:
        """On any thread; so is the next."""

    def activity(self) -> Activity: ...

    @property
    def is_healthy(self) -> bool:
        """False once the engine thread has died."""


async def load(
    engine: EngineClient,
    ref: AdapterRef,
    tier: MemoryTier,
    timeout_s: float | None = None,
    tenant: str = DEFAULT_TENANT,
) -> None:
    """Returns when the version is in `tier` or a faster one; nothing keeps it there.

    Raises `ColdLoadTimeout` after `timeout_s` or the engine's own limit, and what `submit` raises.
    """
    request = GenerationRequest(
        request_id=f"load-{secrets.token_hex(8)}",
        prompt_ids=(),
        params=SamplingParams(max_tokens=0),
        adapter=ref,
        tenant=tenant,
        max_cold_s=timeout_s,
        load_into=tier,
    )
    stream = engine.submit(request)
    try:
        async for event in stream:
            if event.error is not None:
                raise event.error
    finally:
        await stream.aclose()
