"""The border between event loop and engine thread: order, ends, overload, failure."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from service.core import FinishReason, GenerationRequest, SamplingParams
from service.engine.async_engine import AsyncEngine, EngineStream
from service.engine.client import load
from service.errors import ColdLoadTimeout, Draining, EngineFailed, Overloaded
from service.step import Step, StepResult
from tests.engine.machine import Machine, expected_tokens, ref

pytestmark = pytest.mark.anyio
PROMPT = (5, 6, 7)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def request(number: int, max_tokens: int = 4) -> GenerationRequest:
    return GenerationRequest(f"r{number}", PROMPT, SamplingParams(max_tokens=max_tokens))


@asynccontextmanager
async def running(machine: Machine, max_pending: int = 8) -> AsyncIterator[AsyncEngine]:
    engine = AsyncEngine(machine.parts, max_pending)
    engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def tokens_of(stream: EngineStream) -> tuple[int, ...]:
    return tuple([token_id async for event in stream for token_id in event.token_ids])


async def test_sequences_end_with_what_they_get_alone() -> None:
    async with running(Machine()) as engine:
        streams = [engine.submit(request(number)) for number in range(5)]
        results = await asyncio.gather(*map(tokens_of, streams))
        assert set(results) == {expected_tokens(request(0), 4)}
        assert engine.num_open == 0


async def test_closing_a_stream_frees_its_blocks() -> None:
    machine = Machine(num_blocks=600)
    async with running(machine) as engine:
        stream = engine.submit(request(0, max_tokens=2000))
        await anext(stream)
        await stream.aclose()
        for _ in range(500):
            if not engine.stats().kv_blocks_used:
                break
            await asyncio.sleep(0.01)
        assert (engine.stats().num_running, engine.stats().kv_blocks_used) == (0, 0)
        assert len(machine.runner.steps) < 2000


async def test_a_full_house_is_an_overload() -> None:
    async with running(Machine(num_blocks=600), max_pending=1) as engine:
        stream = engine.submit(request(0, max_tokens=2000))
        with pytest.raises(Overloaded):
            engine.submit(request(1))
        await stream.aclose()
        assert await tokens_of(engine.submit(request(2)))


async def test_draining_refuses_the_new_and_finishes_the_old() -> None:
    async with running(Machine()) as engine:
        stream = engine.submit(request(0))
        engine.drain()
        with pytest.raises(Draining):
            engine.submit(request(1))
        assert len(await tokens_of(stream)) == 4


async def test_stop_ends_open_streams_with_an_error() -> None:
    async with running(Machine(num_blocks=600)) as engine:
        stream = engine.submit(request(0, max_tokens=2000))
        await anext(stream)
    events = [event async for event in stream]
    assert isinstance(events[-1].error, Draining)


async def test_what_outlasts_the_drain_ends_with_an_error_and_is_computed_no_more() -> None:
    async with running(Machine(num_blocks=600)) as engine:
        streams = [engine.submit(request(number, max_tokens=2000)) for number in range(2)]
        for stream in streams:
            await anext(stream)
        engine.cut_off()
        for stream in streams:
            events = [event async for event in stream]
            assert isinstance(events[-1].error, Draining)
        with pytest.raises(Draining):
            engine.submit(request(9))
        while engine.stats().num_running:  # noqa: ASYNC110 - the thread tells nobody
            await asyncio.sleep(0.01)
        assert engine.num_open == 0


async def test_a_crash_of_the_thread_ends_every_stream_and_shows() -> None:
    machine = Machine()
    machine.runner.error = RuntimeError("no memory left")
    async with running(machine) as engine:
        streams = [engine.submit(request(number)) for number in range(3)]
        for stream in streams:
            events = [event async for event in stream]
            assert events[-1].finish_reason is FinishReason.ERROR
            assert isinstance(events[-1].error, EngineFailed)
        assert not engine.is_healthy
        with pytest.raises(EngineFailed):
            engine.submit(request(9))


async def test_a_load_returns_when_the_version_is_there() -> None:
    machine = Machine()

    async def finish_loads() -> None:
        for _ in range(1000):
            if machine.loader.pending.pop("digest1", None):
                break
            await asyncio.sleep(0.001)
        engine._on_loaded("digest1", object(), 0.1)

    async with running(machine) as engine:
        await asyncio.gather(load(engine, ref(1), "device", 5.0), finish_loads())
        assert engine.stats().resident == {"digest1": "device"}
        await load(engine, ref(1), "host", 0.0)
        with pytest.raises(ColdLoadTimeout):
            await load(engine, ref(2), "host", 0.01)
        assert engine.num_open == 0


async def test_what_is_pinned_before_the_start_is_loaded_at_the_start() -> None:
    machine = Machine()
    engine = AsyncEngine(machine.parts, max_pending=1)
    engine.pin([ref(1)])
    engine.start()
    for _ in range(1000):
        if machine.loader.pending:
            break
        await asyncio.sleep(0.001)
    await engine.stop()
    assert set(machine.loader.pending) == {"digest1"}


async def test_a_load_that_is_not_waited_for_leaves_nothing_open() -> None:
    async with running(Machine()) as engine:
        waiting = asyncio.ensure_future(load(engine, ref(1), "host"))
        await asyncio.sleep(0.01)
        assert engine.num_open == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert engine.num_open == 0


async def test_a_step_crosses_the_border_once() -> None:
    machine = Machine(max_num_batched_tokens=64)
    loop = asyncio.get_running_loop()
    calls = 0
    original = loop.call_soon_threadsafe

    def counting(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        return original(*arguments, **options)

    async with running(machine, max_pending=32) as engine:
        loop.call_soon_threadsafe = counting
        try:
            await asyncio.gather(*(tokens_of(engine.submit(request(one))) for one in range(8)))
        finally:
            loop.call_soon_threadsafe = original
    assert calls <= len(machine.runner.steps)


def test_results_are_plain_data() -> None:
    """What crosses the border could cross a process border too."""
    assert Step.__dataclass_params__.frozen
    assert StepResult.__dataclass_params__.frozen
