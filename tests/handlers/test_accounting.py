"""Every answer is accounted for once, on every way out."""

import asyncio
from dataclasses import replace

import pytest

from service.adapter_metrics import AdapterLabels, AdapterSample
from service.adapters.backends.memory_counters import MemoryCounters
from service.core import EngineStats, SamplingParams
from service.errors import EngineFailed
from service.handlers.accounting import AnswerSummary, Outcome, adapter_metrics, metrics_by_adapter
from service.handlers.binding import Summand
from service.handlers.generation import GenerationCall, GenerationHandler
from service.handlers.prompts import TextPrompt
from service.handlers.quotas import QuotaGuard
from service.metrics import Metrics
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
            QuotaGuard(MemoryCounters()),
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


def counted(engine: FakeEngine, call: GenerationCall) -> dict[str, float]:
    """What metrics by adapter show of one call: samples other than 0, with sorted labels."""
    by_adapter = metrics_by_adapter(5, "tiny", lambda name, version: True)
    registry = FakeRegistry(*(adapter_ref(one, 3, is_summable=True) for one in ("alpha", "beta")))
    sinks = [adapter_metrics(by_adapter, "tiny")]
    handler = GenerationHandler(
        base_description(),
        FakeTexts(),
        registry,
        engine,
        Metrics(EngineStats),
        QuotaGuard(MemoryCounters()),
        sinks,
    )

    async def main() -> None:
        answer = await handler.open(call)
        try:
            _ = [delta async for delta in answer]
        except EngineFailed:
            pass
        finally:
            await answer.aclose()

    asyncio.run(main())
    samples = [one for family in by_adapter.collect() for one in family.samples if one.value]
    return {
        one.name.removeprefix("repertoire_adapter_") + str(sorted(one.labels.values())): one.value
        for one in samples
    }


def test_an_answer_counts_for_its_adapter_version_and_tenant() -> None:
    engine = FakeEngine(tier="disk", load_seconds=lambda request: 0.5)
    found = counted(engine, replace(CALL, n=2))
    assert found["requests_total['3', 'alpha', 'completed', 'red']"] == 1
    assert found["lookups_total['3', 'alpha', 'disk', 'red']"] == 2
    assert found["load_seconds_total['3', 'alpha', 'red']"] == pytest.approx(0.5)
    assert found["prompt_tokens_total['3', 'alpha', 'red']"] == 3
    assert found["generation_tokens_total['3', 'alpha', 'red']"] == 10
    assert found["time_to_first_token_seconds_count['3', 'alpha', 'red']"] == 1


def test_a_failure_before_the_first_token_counts_as_one() -> None:
    found = counted(FakeEngine(error_after=(0, EngineFailed("broken"))), CALL)
    assert found["requests_total['3', 'alpha', 'failed', 'red']"] == 1
    assert not any("first_token" in name for name in found)


def test_the_base_counts_without_version_and_tier() -> None:
    found = counted(FakeEngine(), replace(CALL, model="tiny"))
    assert found["requests_total['', 'completed', 'red', 'tiny']"] == 1
    assert not any("lookups" in name for name in found)


def test_all_weighted_sums_are_one_series() -> None:
    summands = (Summand("alpha", 0.5), Summand("beta", 0.25))
    found = counted(FakeEngine(), replace(CALL, model="tiny", adapters=summands))
    assert found["requests_total['', '_sum', 'completed', 'red']"] == 1


def test_versions_that_are_gone_are_shown_no_more() -> None:
    sample = AdapterSample("completed", 1, 1, None, 0.0, ())
    metrics = metrics_by_adapter(9, "tiny", lambda *given: given == ("alpha", 2))
    for adapter, version in [("alpha", "1"), ("alpha", "2"), ("tiny", ""), ("_sum", "")]:
        metrics.count(AdapterLabels(adapter, version, "red"), sample)
    samples = [one for family in metrics.collect() for one in family.samples]
    assert {(one.labels["adapter"], one.labels["version"]) for one in samples} == {
        ("alpha", "2"),
        ("tiny", ""),
        ("_sum", ""),
    }
