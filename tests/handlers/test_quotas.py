"""Limits per minute around a whole call: taken before it runs, settled on every way out."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from service.adapters.backends.memory_counters import MemoryCounters
from service.core import EngineStats, SamplingParams
from service.errors import (
    ColdLoadTimeout,
    EngineFailed,
    InvalidRequest,
    NeverWithinLimit,
    Overloaded,
    RateLimited,
)
from service.handlers.answer import Answer
from service.handlers.generation import GenerationCall, GenerationHandler
from service.handlers.prompts import ChatPrompt, TextPrompt, TokenPrompt
from service.handlers.quotas import Admission, QuotaGuard
from service.metrics import Metrics
from service.tenancy import UNLIMITED, Principal, RateState, TenantLimits
from service.text import TextForm
from tests.fakes import FakeEngine, FakeRegistry, FakeTexts, adapter_ref, base_description

CALL = GenerationCall(
    "r",
    "alpha",
    (TextPrompt("Hi"),),
    SamplingParams(max_tokens=20),
    principal=Principal("red"),
)
"""A prompt of 3 tokens."""


class Scene:
    def __init__(self) -> None:
        self.now = 1000.0
        self.engine = FakeEngine()
        self.registry = FakeRegistry(adapter_ref("alpha"))
        self.limits = {"red": TenantLimits(tokens_per_minute=100)}
        self.counters = MemoryCounters(lambda: self.now)
        quotas = QuotaGuard(
            self.counters, lambda tenant: self.limits.get(tenant, UNLIMITED), lambda: self.now
        )
        self.texts = FakeTexts()
        self.handler = GenerationHandler(
            base_description(),
            self.texts,
            self.registry,
            self.engine,
            Metrics(EngineStats),
            quotas,
        )

    async def answered(self, call: GenerationCall = CALL) -> Answer:
        answer = await self.handler.open(call)
        try:
            async for _ in answer:
                pass
        finally:
            await answer.aclose()
        return answer

    async def tokens_left(self) -> int:
        tokens = (await self.rates()).tokens
        assert tokens is not None
        return tokens.remaining

    async def rates(self) -> RateState:
        guard = QuotaGuard(self.counters, lambda tenant: self.limits[tenant])
        admission = await guard.admit("red")
        await admission.settle(None)
        return admission.rates


@pytest.fixture
def scene() -> Scene:
    return Scene()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def test_all_that_a_call_may_use_is_taken_and_what_it_did_not_use_comes_back(scene: Scene) -> None:
    async def main() -> None:
        answer = await scene.handler.open(replace(CALL, n=2))
        assert answer.rates.tokens is not None
        assert answer.rates.tokens.remaining == 100 - 3 - 2 * 20
        await anext(aiter(answer))
        await answer.aclose()
        assert await scene.tokens_left() == 100 - 3 - 1, "an aborted answer pays what it got"
        await scene.answered(CALL)
        assert await scene.tokens_left() == 96 - 3 - 20

    run(main())


def test_a_refusal_says_how_long_and_has_taken_nothing(scene: Scene) -> None:
    async def main() -> None:
        for _ in range(4):
            await scene.answered()
        scene.now += 12.25
        with pytest.raises(RateLimited, match="limit of 100 tokens per minute") as caught:
            await scene.answered()
        assert caught.value.retry_after_ms == 47_750
        assert caught.value.retry_after == 48
        assert caught.value.rates.tokens is not None
        assert caught.value.rates.tokens.remaining == 8
        assert scene.registry.released == scene.registry.acquired
        assert len(scene.engine.submitted) == 4
        scene.now += 47.75
        await scene.answered()

    run(main())


def test_a_flood_is_refused_before_its_prompts_are_read(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.limits["red"] = TenantLimits(requests_per_minute=1)
    encoded: list[str] = []
    encode = scene.texts.tokenizer.encode

    def noted(text: str, add_special_tokens: bool) -> list[int]:
        encoded.append(text)
        return encode(text, add_special_tokens)

    monkeypatch.setattr(scene.texts.tokenizer, "encode", noted)

    async def main() -> None:
        await scene.answered()
        waits = []
        for _ in range(5):
            scene.now += 10
            with pytest.raises(RateLimited, match="limit of 1 requests per minute") as caught:
                await scene.answered()
            waits.append(caught.value.retry_after)
            assert caught.value.rates.requests is not None
            assert caught.value.rates.requests.reset_ms == caught.value.retry_after_ms
        assert waits == [50, 40, 30, 20, 10]
        assert len(encoded) == 1
        await scene.answered(replace(CALL, principal=Principal("blue")))
        scene.now += 10
        await scene.answered()

    run(main())


async def refuse(messages: object) -> str:
    raise InvalidRequest("The adapter's chat template takes more time.", "messages")


def test_a_call_that_fails_at_its_prompt_is_a_request(scene: Scene) -> None:
    scene.limits["red"] = TenantLimits(requests_per_minute=1)
    scene.texts.own[adapter_ref("alpha").digest] = TextForm(scene.texts.tokenizer, refuse)
    chat = replace(CALL, prompts=(ChatPrompt(({"role": "user", "content": "Hi"},)),))

    async def main() -> None:
        with pytest.raises(InvalidRequest, match="more time"):
            await scene.answered(chat)
        with pytest.raises(RateLimited, match="1 requests per minute"):
            await scene.answered(chat)
        assert scene.registry.released == scene.registry.acquired

    run(main())


def test_a_prompt_that_is_being_read_holds_its_place_until_its_client_goes(scene: Scene) -> None:
    scene.limits["red"] = TenantLimits(2, 100, 1)
    reading = asyncio.Event()

    async def render(messages: object) -> str:
        reading.set()
        await asyncio.Event().wait()
        return ""

    scene.texts.own[adapter_ref("alpha").digest] = TextForm(scene.texts.tokenizer, render)
    chat = replace(CALL, prompts=(ChatPrompt(({"role": "user", "content": "Hi"},)),))

    async def main() -> None:
        task = asyncio.create_task(scene.answered(chat))
        await reading.wait()
        with pytest.raises(RateLimited, match="1 requests at once"):
            await scene.answered()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        rates = await scene.rates()
        assert rates.requests is not None
        assert rates.tokens is not None
        # `rates` itself takes one while it looks.
        assert (rates.requests.remaining, rates.tokens.remaining) == (0, 100)

    run(main())


def test_a_call_that_waited_for_its_adapter_in_vain_is_a_request(scene: Scene) -> None:
    scene.limits["red"] = TenantLimits(1, 100, 1)
    scene.engine.cold.add(adapter_ref("alpha").digest)

    async def main() -> None:
        with pytest.raises(ColdLoadTimeout):
            await scene.answered(replace(CALL, max_cold_s=0.01))
        with pytest.raises(RateLimited, match="1 requests per minute"):
            await scene.answered()
        scene.now += 60
        assert await scene.tokens_left() == 100

    run(main())


def test_a_raised_limit_opens_at_once(scene: Scene) -> None:
    scene.limits["red"] = TenantLimits(requests_per_minute=1)

    async def main() -> None:
        await scene.answered()
        with pytest.raises(RateLimited):
            await scene.answered()
        scene.limits["red"] = TenantLimits(requests_per_minute=2)
        await scene.answered()

    run(main())


def test_concurrent_calls_are_counted_until_their_answers_close(scene: Scene) -> None:
    scene.limits["red"] = TenantLimits(max_concurrent_requests=1)

    async def main() -> None:
        answer = await scene.handler.open(CALL)
        with pytest.raises(RateLimited, match="1 requests at once") as caught:
            await scene.answered()
        assert caught.value.retry_after == 1
        await answer.aclose()
        await scene.answered()

    run(main())


def test_other_tenants_are_not_limited(scene: Scene) -> None:
    scene.limits["red"] = TenantLimits(requests_per_minute=1)

    async def main() -> None:
        await scene.answered()
        with pytest.raises(RateLimited):
            await scene.answered()
        answer = await scene.answered(replace(CALL, principal=Principal("blue")))
        assert answer.rates == RateState()

    run(main())


@pytest.mark.parametrize("error", [Overloaded("full"), EngineFailed("dead")])
def test_a_call_that_was_never_begun_does_not_count(scene: Scene, error: Exception) -> None:
    scene.limits["red"] = TenantLimits(1, 100, 1)
    scene.engine.submit_error = error

    async def main() -> None:
        with pytest.raises(type(error)):
            await scene.answered()
        scene.engine.submit_error = None
        await scene.answered()

    run(main())


def test_a_fallback_for_a_cold_adapter_is_one_request(scene: Scene) -> None:
    scene.limits["red"] = TenantLimits(1, 100, 1)
    scene.engine.cold.add(adapter_ref("alpha").digest)

    async def main() -> None:
        answer = await scene.answered(replace(CALL, max_cold_s=0.01, cold_fallback="tiny"))
        assert answer.is_fallback
        with pytest.raises(RateLimited, match="1 requests per minute"):
            await scene.answered()

    run(main())


def test_what_never_fits_is_said_at_once(scene: Scene) -> None:
    call = replace(CALL, params=SamplingParams(max_tokens=98))
    with pytest.raises(NeverWithinLimit, match="up to 101 tokens, more than the 100") as caught:
        run(scene.answered(call))
    assert caught.value.param == "max_tokens"
    assert scene.registry.released == scene.registry.acquired
    assert scene.engine.submitted == []


@pytest.mark.parametrize(("n", "num_prompt", "given"), [(1, 30, 70), (2, 30, 35), (1, 99, 1)])
def test_a_default_length_is_shortened_to_the_limit(
    scene: Scene, n: int, num_prompt: int, given: int
) -> None:
    call = replace(
        CALL,
        prompts=(TokenPrompt((97,) * num_prompt),),
        params=SamplingParams(max_tokens=90),
        is_shortened_to_fit=True,
        n=n,
    )
    if num_prompt + given > 128:
        given = 128 - num_prompt
    run(scene.answered(call))
    assert {one.params.max_tokens for one in scene.engine.submitted} == {given}


def test_a_prompt_beyond_the_limit_never_fits(scene: Scene) -> None:
    call = replace(CALL, prompts=(TokenPrompt((97,) * 100),), is_shortened_to_fit=True)
    with pytest.raises(NeverWithinLimit):
        run(scene.answered(call))


def test_settling_is_carried_out_though_its_caller_is_cancelled() -> None:
    """The counters of a fleet take a moment, and a client that goes away cancels."""
    settled: list[int | None] = []

    async def settle(num_tokens: int | None) -> None:
        await asyncio.sleep(0.02)
        settled.append(num_tokens)

    async def reserve(num_tokens: int) -> RateState:
        return RateState()

    async def main() -> None:
        admission = Admission(RateState(), settle, reserve)
        task = asyncio.create_task(admission.settle(5))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await admission.settle(7)
        await asyncio.sleep(0.05)

    run(main())
    assert settled == [5]
