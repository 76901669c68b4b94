"""Tries again what broke: a bounded number of times, each after a longer pause."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import anyio

from service.errors import SourceFailed

MAX_WAIT_S = 20.0

_T = TypeVar("_T")


class Interrupted(Exception):
    """Worth another attempt. The text is a sentence, and part of what a client is told."""

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        """`wait_s` is what the source asks for."""
        super().__init__(message)
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Patience:
    num_attempts: int = 8
    """The first included."""
    first_wait_s: float = 0.5

    def wait_s(self, num_failed: int, asked_s: float) -> float:
        own = self.first_wait_s * 2.0 ** (num_failed - 1) * random.uniform(0.5, 1)
        return min(MAX_WAIT_S, max(own, asked_s))

    async def try_(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Raises `SourceFailed` when the last attempt is interrupted too."""
        for number in range(1, self.num_attempts):
            try:
                return await attempt()
            except Interrupted as error:
                await anyio.sleep(self.wait_s(number, error.wait_s))
        try:
            return await attempt()
        except Interrupted as error:
            raise SourceFailed(f"{error} That was attempt {self.num_attempts}.") from None
