"""Every answer is accounted for once, on every way out."""

import asyncio
from dataclasses import replace

import pytest

from service.core import EngineStats, SamplingParams
from service.errors import EngineFailed
from service.handlers.accounting import AnswerSummary, Outcome
from service.handlers.generation import GenerationCall, GenerationHandler
from service.handlers.prompts import TextPrompt
from service.telemetry import Metrics
from service.tenancy import Principal
from tests.fakes import FakeEngine, FakeRegistry, FakeTexts, adapter_ref, base_description

CALL = GenerationCall(
    "r",
    "alpha",
    (TextPrompt("Hi"),),
    SamplingParams(max_tokens=5),
    principal=Principal("red", key_id="k1"),
)


class Scene:
    def __init__(self) -> None:
        self.engine = FakeEngine(num_cached_tokens=lambda request: 2)
        self.metrics = Metrics(EngineStats)
        self.summaries: list[AnswerSummary] = []

    def handler(self) -> GenerationHandler:
        return GenerationHandler(
            base_description(),
            FakeTexts(),
            FakeRegistry(adapter_ref("alpha", 3)),
            self.engine,
            self.metrics,
            [self._broken, self.summaries.append],
        )

    def _broken(self, summary: AnswerSummary) -> None:
        raise RuntimeError("a sink that fails")

    def read(self, call: GenerationCall, num_deltas: int = 1000) -> AnswerSummary:
        async def main() -> None:
            answer = await self.handler().open(call)
            try:
                deltas = aiter(answer)
                for _ in range(num_deltas):
                    if await anext(deltas, None) is None:
                        break
            finally:
                await answer.aclose()
                await answer.aclose()

        try:
            asyncio.run(main())
        except EngineFailed:
            assert self.engine.error_after is not None
        (summary,) = self.summaries
        return summary


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_whole_answer_counts_its_prompt_once_and_all_of_its_tokens(scene: Scene) -> None:
    summary = scene.read(replace(CALL, n=2))
    assert (summary.tenant, summary.principal.key_id) == ("red", "k1")
    assert summary.adapter == adapter_ref("alpha", 3)
    assert summary.outcome is Outcome.COMPLETED
    assert (summary.num_prompt_tokens, summary.num_cached_tokens) == (3, 2)
    assert summary.num_generated_tokens == 10
    assert summary.seconds_to_first_token is not None
    assert 0 <= summary.seconds_to_first_token <= summary.seconds


def test_the_base_has_no_adapter(scene: Scene) -> None:
    assert scene.read(replace(CALL, model="tiny")).adapter is None


@pytest.mark.parametrize("n", [1, 2])
def test_what_an_aborted_answer_has_used_is_counted(scene: Scene, n: int) -> None:
    summary = scene.read(replace(CALL, n=n, params=SamplingParams(max_tokens=50)), num_deltas=3)
    assert summary.outcome is Outcome.ABORTED
    assert summary.num_generated_tokens == 3


def test_a_failed_answer_says_so(scene: Scene) -> None:
    scene.engine.error_after = (2, EngineFailed("gone"))
    summary = scene.read(CALL)
    assert summary.outcome is Outcome.FAILED
    assert summary.num_generated_tokens == 2


def test_an_answer_that_failed_before_its_first_token_has_no_time_to_it(scene: Scene) -> None:
    scene.engine.error_after = (0, EngineFailed("gone"))
    summary = scene.read(CALL)
    assert summary.outcome is Outcome.FAILED
    assert (summary.seconds_to_first_token, summary.num_generated_tokens) == (None, 0)


def test_a_stop_string_completes_an_answer(scene: Scene) -> None:
    assert scene.read(replace(CALL, stop=("am",))).outcome is Outcome.COMPLETED


def test_the_engine_is_told_the_tenant(scene: Scene) -> None:
    scene.read(CALL)
    assert [one.tenant for one in scene.engine.submitted] == ["red"]


def test_generated_tokens_are_a_metric_whatever_other_sinks_do(scene: Scene) -> None:
    scene.read(CALL)
    assert b"repertoire_generation_tokens_total 5.0" in scene.metrics.render()
