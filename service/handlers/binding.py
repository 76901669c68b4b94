"""Which version a request is bound to from its first moment to its last: one, or a sum of some."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.adapters.sums import merge_parts, sum_ref
from service.core import AdapterPart, AdapterRef
from service.errors import InvalidRequest, ModelNotFound
from service.tenancy import Principal


class Registry(Protocol):
    """Which version a name means now, and how many requests use each."""

    def acquire(self, principal: Principal, model: str, key: str | None = None) -> AdapterRef:
        """Look up among what the caller may use, and count, in one go; `key` decides where an
        alias leads to several versions.

        Raises `ModelNotFound`.
        """

    def release(self, ref: AdapterRef) -> None: ...


@dataclass(frozen=True, slots=True)
class Summand:
    """One entry of a request's `adapters`."""

    name: str
    weight: float


@dataclass(frozen=True, slots=True)
class _Caller:
    principal: Principal
    key: str


class AdapterBinder:
    def __init__(self, base_name: str, registry: Registry) -> None:
        self._base_name = base_name
        self._registry = registry

    def acquire(
        self,
        model: str,
        summands: Sequence[Summand] = (),
        sticky_key: str = "",
        param: str = "model",
        *,
        principal: Principal,
    ) -> AdapterRef | None:
        """None means the base, which only its own name may: nothing unknown is answered by it.

        Raises `ModelNotFound` or `InvalidRequest`, having taken nothing.
        """
        caller = _Caller(principal, sticky_key or f"{random.getrandbits(64):x}")
        if summands:
            return self._acquire_sum(model, summands, caller)
        return None if model == self._base_name else self._acquire_one(model, param, caller)

    def release(self, ref: AdapterRef | None) -> None:
        if ref is not None:
            for part in ref.parts:
                self._registry.release(part.ref)
            if not ref.parts:
                self._registry.release(ref)

    def _acquire_one(self, model: str, param: str, caller: _Caller) -> AdapterRef:
        try:
            name = model.removeprefix(f"{self._base_name}:")
            return self._registry.acquire(caller.principal, name, caller.key)
        except ModelNotFound:
            raise ModelNotFound(model, param) from None

    def _acquire_sum(self, model: str, summands: Sequence[Summand], caller: _Caller) -> AdapterRef:
        if model != self._base_name:
            raise InvalidRequest(
                f"With adapters, model is the base that they are added to: {self._base_name!r}.",
                "adapters",
            )
        parts: list[AdapterPart] = []
        try:
            for summand in summands:
                ref = self._acquire_summand(summand.name, caller)
                parts.append(AdapterPart(ref, summand.weight))
            total = _sum_of(merge_parts(parts))
        except BaseException:
            for part in parts:
                self._registry.release(part.ref)
            raise
        self._release_doubles(parts)
        return total

    def _acquire_summand(self, name: str, caller: _Caller) -> AdapterRef:
        if name == self._base_name:
            raise InvalidRequest(f"{name!r} is the base, which is part of every sum.", "adapters")
        return self._acquire_one(name, "adapters", caller)

    def _release_doubles(self, parts: Sequence[AdapterPart]) -> None:
        """A content that was named twice is held once."""
        held: set[str] = set()
        for part in parts:
            if part.ref.digest in held:
                self._registry.release(part.ref)
            held.add(part.ref.digest)


def _sum_of(parts: tuple[AdapterPart, ...]) -> AdapterRef:
    if len(parts) == 1 and parts[0].weight == 1:
        return parts[0].ref
    for part in parts:
        if not part.ref.is_summable:
            raise InvalidRequest(
                f"The adapter {part.ref.label!r} can be used alone, but neither summed nor given a"
                " weight: that needs low-rank matrices and nothing else, no DoRA, replaced biases,"
                " prompts or other kinds.",
                "adapters",
            )
    return sum_ref(parts)
