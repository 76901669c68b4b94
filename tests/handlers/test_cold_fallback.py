"""A limit to the load of an adapter, and the model that answers when it was not enough."""

import asyncio
from dataclasses import replace

import pytest

from service.errors import ColdLoadTimeout, EngineFailed, InvalidRequest, ModelNotFound
from service.handlers.accounting import Outcome
from service.handlers.answer import Answer
from service.handlers.binding import Summand
from tests.fakes import FakeRegistry, adapter_ref
from tests.handlers.test_generation import CALL, Scene, run, texts

COLD = replace(CALL, max_cold_s=0.01)


@pytest.fixture
def scene() -> Scene:
    """`alpha` is cold, `beta` is warm."""
    scene = Scene()
    alpha, beta = adapter_ref("alpha", 3, is_summable=True), adapter_ref("beta", 4)
    tasked = replace(adapter_ref("tasked", 5), num_tasks=2)
    scene.registry = FakeRegistry(alpha, beta, tasked)
    scene.engine.cold.add(alpha.digest)
    return scene


def answered(scene: Scene, **changes: object) -> tuple[Answer, list[str]]:
    async def work() -> tuple[Answer, list[str]]:
        answer = await scene.handler().open(replace(COLD, **changes))
        try:
            return answer, await texts(answer)
        finally:
            await answer.aclose()

    found: tuple[Answer, list[str]] = run(work())
    scene.registry.acquired.sort(key=str)
    scene.registry.released.sort(key=str)
    scene.assert_given_back()
    return found


def refused(scene: Scene, error: type[Exception], **changes: object) -> Exception:
    with pytest.raises(error) as caught:
        run(scene.handler().open(replace(COLD, **changes)))
    scene.registry.acquired.sort(key=str)
    scene.registry.released.sort(key=str)
    scene.assert_given_back()
    return caught.value


@pytest.mark.parametrize("n", [1, 3])
def test_a_limit_that_is_reached_is_an_error_before_the_answer_begins(scene: Scene, n: int) -> None:
    refused(scene, ColdLoadTimeout, n=n)
    assert len(scene.engine.submitted) == n
    counted = [(one.adapter, one.outcome) for one in scene.summaries]
    assert counted == [(adapter_ref("alpha", 3, is_summable=True), Outcome.FAILED)]


@pytest.mark.parametrize("n", [1, 3])
def test_a_warm_adapter_answers_itself(scene: Scene, n: int) -> None:
    answer, found = answered(scene, model="beta", cold_fallback="tiny", n=n)
    assert found[0] == "I am beta, choice 0."
    assert (answer.model, answer.is_fallback) == ("beta", False)
    assert [one.max_cold_s for one in scene.engine.submitted] == [0.01] * n


@pytest.mark.parametrize(("other", "who"), [("beta", "beta"), ("beta@4", "beta"), ("tiny", "base")])
def test_the_model_that_was_asked_for_answers_for_a_cold_one(
    scene: Scene, other: str, who: str
) -> None:
    answer, found = answered(scene, cold_fallback=other, n=2)
    assert found == [f"I am {who}, choice 0.", f"I am {who}, choice 1."]
    assert (answer.model, answer.is_fallback) == (other, True)
    assert (answer.adapter and answer.adapter.name) == (None if who == "base" else who)


def test_a_sum_can_be_cold_too(scene: Scene) -> None:
    weighted = (Summand("alpha", 0.5),)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scene.engine, "cold", AllButTheBase())
        answer, found = answered(scene, model="tiny", adapters=weighted, cold_fallback="tiny")
        refused(scene, ColdLoadTimeout, request_id="s", model="tiny", adapters=weighted)
    assert (found, answer.is_fallback) == (["I am base, choice 0."], True)


class AllButTheBase(set[str]):
    def __contains__(self, digest: object) -> bool:
        return True


def test_a_fallback_that_is_cold_as_well_is_no_way_out(scene: Scene) -> None:
    """And costs no second wait."""
    scene.engine.cold.add(adapter_ref("beta", 4).digest)
    refused(scene, ColdLoadTimeout, cold_fallback="beta")
    assert [one.max_cold_s for one in scene.engine.submitted] == [0.01, 0.0]


def test_a_fallback_on_the_same_version_is_none(scene: Scene) -> None:
    refused(scene, ColdLoadTimeout, cold_fallback="alpha@3")
    assert len(scene.engine.submitted) == 1


@pytest.mark.parametrize("model", ["alpha", "beta", "tiny"])
def test_an_unknown_fallback_is_refused_also_when_it_is_not_needed(
    scene: Scene, model: str
) -> None:
    error = refused(scene, ModelNotFound, model=model, cold_fallback="gamma")
    assert error.param == "cold_fallback"
    assert not scene.engine.submitted


def test_a_fallback_with_tasks_needs_one(scene: Scene) -> None:
    refused(scene, InvalidRequest, cold_fallback="tasked")
    assert not scene.engine.submitted


def test_the_task_belongs_to_the_model_that_has_tasks(scene: Scene) -> None:
    scene.engine.cold.add(adapter_ref("tasked", 5).digest)
    _, found = answered(scene, model="tasked", task_id=1, cold_fallback="beta")
    assert found == ["I am beta, choice 0."]
    assert [one.task_id for one in scene.engine.submitted] == [1, 0]


def test_another_failure_does_not_fall_back(scene: Scene) -> None:
    scene.engine.submit_error = EngineFailed("dead")
    refused(scene, EngineFailed, cold_fallback="beta")


def test_who_leaves_while_waiting_for_a_load_holds_nothing(scene: Scene) -> None:
    async def work() -> None:
        call = replace(COLD, max_cold_s=60.0, cold_fallback="beta", n=2)
        task = asyncio.create_task(scene.handler().open(call))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(work())
    assert len(scene.engine.submitted) == 2
    assert sorted(scene.registry.released, key=str) == sorted(scene.registry.acquired, key=str)
    assert len(scene.engine.closed) == 2
