"""Until something is so; the bound is a safety net and no measure."""

import asyncio
import time
from collections.abc import Callable


def until(is_so: Callable[[], object], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, "it has never become so"
        time.sleep(0.01)


async def until_async(is_so: Callable[[], object], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, "it has never become so"
        await asyncio.sleep(0.01)
