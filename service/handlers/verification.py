"""Use case: is an adapter served exactly? Probe prompts run through the live engine, mixed with
whatever else runs, and through peft in the compile server; the logits are compared."""

import asyncio
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from service.adapters.compiling import Reference
from service.adapters.verdict import Verdict, judge
from service.base import BaseDescription
from service.core import AdapterRef, GenerationRequest, Logits, SamplingParams
from service.engine.client import EngineClient
from service.errors import EngineFailed
from service.phases import phase
from service.tenancy import tenant_of

_NO_TOKENS = SamplingParams(max_tokens=0, temperature=0.0)

Arrays = dict[str, Logits]
"""As `Reference.reference` writes them."""


class Verifier:
    def __init__(
        self,
        base: BaseDescription,
        engine: EngineClient,
        reference: Reference,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._base = base
        self._engine = engine
        self._reference = reference
        self._clock = clock

    async def verify(self, ref: AdapterRef, folder: Path, work: Path) -> Verdict:
        """`folder` holds the files of the version `ref`, which the engine can load; what is
        written goes into the existing folder `work`."""
        with phase("verify"):
            return await self._verify(ref, folder, work)

    async def _verify(self, ref: AdapterRef, folder: Path, work: Path) -> Verdict:
        expected = await asyncio.to_thread(self._expected, folder, work)
        numbers = range(sum(name.startswith("prompt_") for name in expected))
        tenant = tenant_of(ref.name)
        served = [self._served(expected, number, ref, tenant) for number in numbers]
        plain = [self._served(expected, number, None, tenant) for number in numbers]
        logits = await asyncio.gather(*served, *plain)
        names = [*(f"adapter_{n}" for n in numbers), *(f"base_{n}" for n in numbers)]
        found = dict(zip(names, logits, strict=True))
        difference, base_difference = (
            max(_difference(found[f"{kind}_{n}"], expected[f"{kind}_{n}"]) for n in numbers)
            for kind in ("adapter", "base")
        )
        return judge(
            difference=difference,
            base_difference=base_difference,
            dtype=self._base.dtype,
            quantization=self._base.quantization,
            num_positions=sum(len(expected[f"prompt_{n}"]) for n in numbers),
            checked_at=int(self._clock()),
        )

    def _expected(self, folder: Path, work: Path) -> Arrays:
        with np.load(self._reference.reference(folder, work), allow_pickle=False) as arrays:
            return dict(arrays)

    async def _served(
        self, expected: Arrays, number: int, ref: AdapterRef | None, tenant: str
    ) -> Logits:
        """`[len(prompt), vocab]`; it counts as the tenant's share of the engine."""
        request = GenerationRequest(
            request_id=f"verify-{secrets.token_hex(8)}",
            prompt_ids=tuple(int(one) for one in expected[f"prompt_{number}"]),
            params=_NO_TOKENS,
            adapter=ref,
            task_id=int(expected[f"task_{number}"]) if ref is not None else 0,
            tenant=tenant,
            keep_logits=True,
        )
        stream = self._engine.submit(request)
        try:
            async for event in stream:
                if event.error is not None:
                    raise event.error
                if event.logits is not None:
                    return event.logits
        finally:
            await stream.aclose()
        raise EngineFailed("The engine gave no logits.")


def _difference(found: Logits, expected: Logits) -> float:
    """NaN when the shapes differ, which no tolerance accepts."""
    if found.shape != expected.shape:
        return float("nan")
    return float(np.abs(found - expected).max())
