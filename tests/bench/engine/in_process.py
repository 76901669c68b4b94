"""The same engine without HTTP, tokenizer and streams: a child process that runs a closed loop for
each line that it reads, and writes how many tokens a second came out."""

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from service.bootstrap import build_services
from service.core import GenerationRequest, SamplingParams
from service.engine.client import EngineClient
from service.settings import resolve_settings
from tests.server import ROOT, environment_of


@dataclass(frozen=True, slots=True)
class Loop:
    width: int
    num_requests: int
    num_prompt: int
    num_output: int
    words: tuple[int, int]


class InProcess:
    def __init__(self, child: "subprocess.Popen[str]") -> None:
        self._child = child

    def tokens_per_s(self, loop: Loop) -> float:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps(asdict(loop)) + "\n")
        self._child.stdin.flush()
        while not (line := self._child.stdout.readline()).startswith("{"):
            assert line, "the engine's process has ended"
        return float(json.loads(line)["tokens_per_s"])


@contextmanager
def in_process(settings: Mapping[str, object]) -> Iterator[InProcess]:
    child = subprocess.Popen(
        [sys.executable, "-m", __spec__.name if __spec__ else __name__],
        cwd=ROOT,
        env=environment_of(settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        yield InProcess(child)


async def _serve() -> None:
    services = build_services(resolve_settings({}))
    async with services.running():
        while line := await asyncio.to_thread(sys.stdin.readline):
            raw: dict[str, Any] = json.loads(line)
            speed = await _run(services.engine, Loop(**raw))
            sys.stdout.write(json.dumps({"tokens_per_s": speed}) + "\n")
            sys.stdout.flush()


async def _run(engine: EngineClient, loop: Loop) -> float:
    draw = random.Random()
    waiting = iter(range(loop.num_requests))

    async def work() -> None:
        for number in waiting:
            prompt = tuple(draw.randrange(*loop.words) for _ in range(loop.num_prompt))
            params = SamplingParams(loop.num_output, temperature=0.0, ignore_eos=True)
            stream = engine.submit(GenerationRequest(f"{number}", prompt, params))
            num_tokens = sum([len(event.token_ids) async for event in stream])
            assert num_tokens == loop.num_output, f"{num_tokens} tokens"

    started = perf_counter()
    await asyncio.gather(*(work() for _ in range(loop.width)))
    return loop.num_requests * loop.num_output / (perf_counter() - started)


if __name__ == "__main__":
    asyncio.run(_serve())
