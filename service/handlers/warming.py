"""Use case: bring a version into memory before anybody waits for it."""

from dataclasses import dataclass
from time import perf_counter

from service.core import AdapterRef, MemoryTier
from service.engine.client import EngineClient, load
from service.handlers.binding import Registry
from service.tenancy import Principal


@dataclass(frozen=True, slots=True)
class Warmed:
    ref: AdapterRef
    tier: str
    """Where it is now: the tier that was asked for, or a faster one."""
    seconds: float


class Warmer:
    def __init__(self, registry: Registry, engine: EngineClient) -> None:
        self._registry = registry
        self._engine = engine

    async def warm(
        self,
        model: str,
        tier: MemoryTier = "host",
        timeout_s: float | None = None,
        *,
        principal: Principal,
    ) -> Warmed:
        """Of an alias with weights, the version with the largest share.

        Raises `ModelNotFound`, `ColdLoadTimeout` or `AdapterLoadFailed`.
        """
        ref = self._registry.acquire(principal, model)
        started = perf_counter()
        try:
            await load(self._engine, ref, tier, timeout_s, principal.tenant)
        finally:
            self._registry.release(ref)
        seconds = perf_counter() - started
        return Warmed(ref, self._engine.stats().resident.get(ref.digest, tier), seconds)
