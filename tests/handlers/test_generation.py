"""The use case without HTTP: what is taken is given back on every way out."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from service.adapters.backends.memory_counters import MemoryCounters
from service.core import EngineStats, FinishReason, GenerationRequest, SamplingParams, TokenEvent
from service.errors import (
    EngineFailed,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    PromptTooLong,
)
from service.handlers.accounting import AnswerSummary
from service.handlers.answer import Answer
from service.handlers.generation import GenerationCall, GenerationHandler
from service.handlers.prompts import TextPrompt, TokenPrompt
from service.handlers.quotas import QuotaGuard
from service.metrics import Metrics
from service.tenancy import Principal
from tests.fakes import (
    FakeEngine,
    FakeRegistry,
    FakeTexts,
    adapter_ref,
    base_description,
)

CALL = GenerationCall("r", "alpha", (TextPrompt("Hi"),), SamplingParams(max_tokens=50), Principal())


class Scene:
    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.registry = FakeRegistry(adapter_ref("alpha", 3))
        self.texts = FakeTexts()
        self.metrics = Metrics(EngineStats)
        self.base = base_description()
        self.summaries: list[AnswerSummary] = []
        self.sinks = [self.summaries.append]

    def handler(self) -> GenerationHandler:
        return GenerationHandler(
            self.base,
            self.texts,
            self.registry,
            self.engine,
            self.metrics,
            QuotaGuard(MemoryCounters()),
            self.sinks,
        )

    def assert_given_back(self) -> None:
        assert self.registry.released == self.registry.acquired
        assert sorted(self.engine.closed) == sorted(one.request_id for one in self.engine.submitted)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


async def texts(answer: Answer) -> list[str]:
    found = [""] * answer.num_choices
    async for delta in answer:
        found[delta.choice] += delta.text
    return found


async def answered(scene: Scene, call: GenerationCall) -> list[str]:
    answer = await scene.handler().open(call)
    try:
        return await texts(answer)
    finally:
        await answer.aclose()


def test_a_call_is_answered(scene: Scene) -> None:
    assert run(answered(scene, CALL)) == ["I am alpha, choice 0."]
    request = scene.engine.submitted[0]
    assert request.prompt_ids == (256, 72, 105)
    assert request.adapter == adapter_ref("alpha", 3)
    scene.assert_given_back()


def test_choices_differ_in_their_number_alone(scene: Scene) -> None:
    prompts = (TextPrompt("a"), TokenPrompt((98,)))
    call = replace(CALL, prompts=prompts, n=2, params=SamplingParams(max_tokens=50, seed=5))
    assert [one[-2] for one in run(answered(scene, call))] == ["0", "1", "0", "1"]
    submitted = scene.engine.submitted
    assert [one.choice for one in submitted] == [0, 1, 0, 1]
    assert [one.request_id for one in submitted] == ["r-0", "r-1", "r-2", "r-3"]
    assert {one.params.seed for one in submitted} == {5}
    assert len(scene.registry.acquired) == 1
    scene.assert_given_back()


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("num_deltas", [0, 1, 5])
def test_closing_early_aborts(scene: Scene, n: int, num_deltas: int) -> None:
    async def work() -> None:
        answer = await scene.handler().open(replace(CALL, n=n))
        deltas = aiter(answer)
        for _ in range(num_deltas):
            await anext(deltas)
        await answer.aclose()
        await answer.aclose()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}, "somebody still reads"

    scene.engine.seconds_per_token = 0.001
    run(work())
    assert len(scene.engine.aborted) == n
    scene.assert_given_back()


def test_cancelling_while_waiting_aborts(scene: Scene) -> None:
    async def work() -> None:
        scene.engine.first_token = asyncio.Event()
        task = asyncio.create_task(answered(scene, replace(CALL, n=2)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(work())
    assert len(scene.engine.aborted) == 2
    scene.assert_given_back()


def test_a_stop_string_ends_one_choice_and_not_its_neighbours(scene: Scene) -> None:
    scene.engine.reply = lambda request: f"{request.choice} stop1 after"
    call = replace(CALL, n=2, stop=("0 stop1",))
    assert run(answered(scene, call)) == ["", "1 stop1 after"]
    assert scene.engine.aborted == ["r-0"]
    scene.assert_given_back()


def test_a_failed_sequence_fails_the_call(scene: Scene) -> None:
    scene.engine.error_after = (2, EngineFailed("gone"))
    with pytest.raises(EngineFailed):
        run(answered(scene, replace(CALL, n=2)))
    scene.assert_given_back()


class SilentStream:
    """Breaks the protocol: ends without a terminal event."""

    def __aiter__(self) -> AsyncIterator[TokenEvent]:
        return self

    async def __anext__(self) -> TokenEvent:
        raise StopAsyncIteration

    async def aclose(self) -> None:
        pass


class AbortedStream(SilentStream):
    async def __anext__(self) -> TokenEvent:
        return TokenEvent("r-0", finish_reason=FinishReason.ABORT)


class OddEngine(FakeEngine):
    def __init__(self, stream: SilentStream) -> None:
        super().__init__()
        self._stream = stream

    def submit(self, request: GenerationRequest) -> Any:
        return self._stream


@pytest.mark.parametrize("n", [1, 2])
def test_an_engine_that_falls_silent_is_not_waited_for(scene: Scene, n: int) -> None:
    scene.engine = OddEngine(SilentStream())
    with pytest.raises(EngineFailed):
        run(answered(scene, replace(CALL, n=n)))
    assert scene.registry.released == scene.registry.acquired


def test_an_aborted_sequence_is_no_answer(scene: Scene) -> None:
    scene.engine = OddEngine(AbortedStream())
    with pytest.raises(EngineFailed):
        run(answered(scene, CALL))
    assert scene.registry.released == scene.registry.acquired


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"model": "beta"}, ModelNotFound),
        ({"prompts": (TokenPrompt((300,)),)}, InvalidRequest),
        ({"prompts": (TokenPrompt(()),)}, InvalidRequest),
        ({"prompts": (TextPrompt("x" * 200),)}, PromptTooLong),
        ({"prompts": (TextPrompt("x" * 5000),)}, PromptTooLong),
        ({"params": SamplingParams(max_tokens=1000)}, PromptTooLong),
        ({"params": SamplingParams(max_tokens=1, logit_bias=((300, 1.0),))}, InvalidRequest),
        ({"n": 129}, InvalidRequest),
    ],
)
def test_a_refused_call_takes_nothing(
    scene: Scene, change: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        run(answered(scene, replace(CALL, **change)))
    assert scene.engine.submitted == []
    scene.assert_given_back()


def test_all_sequences_or_none(scene: Scene) -> None:
    scene.engine.max_sequences = 2
    scene.engine.max_sequences_error = Overloaded("full")
    with pytest.raises(Overloaded):
        run(answered(scene, replace(CALL, n=3)))
    assert scene.engine.aborted == ["r-0", "r-1"]
    scene.assert_given_back()


@pytest.mark.parametrize(
    ("num_prompt", "wanted", "is_default", "given"),
    [
        (100, 28, False, 28),
        (100, 29, False, None),
        (100, 16, True, 16),
        (120, 16, True, 8),
        (128, 16, True, None),
        (128, 0, False, 0),
        (129, 0, False, None),
        (129, 16, True, None),
    ],
)
def test_the_context_is_never_exceeded(
    scene: Scene, num_prompt: int, wanted: int, is_default: bool, given: int | None
) -> None:
    call = replace(
        CALL,
        prompts=(TokenPrompt((97,) * num_prompt),),
        params=SamplingParams(max_tokens=wanted),
        is_shortened_to_fit=is_default,
    )
    if given is None:
        with pytest.raises(PromptTooLong, match=f"128.*{num_prompt}"):
            run(answered(scene, call))
        return
    run(answered(scene, call))
    assert scene.engine.submitted[0].params.max_tokens == given


def reply(text: str | bytes) -> Callable[[GenerationRequest], str | bytes]:
    return lambda request: text


@pytest.mark.parametrize("text", ["héllo 😀 wörld", b"broken \xff\xe4", ""])
def test_text_arrives_whole(scene: Scene, text: str | bytes) -> None:
    scene.engine.reply = reply(text)
    expected = text if isinstance(text, str) else text.decode(errors="replace")
    assert run(answered(scene, CALL)) == [expected]


def test_a_stop_string_may_be_completed_by_the_last_token(scene: Scene) -> None:
    scene.engine.reply = reply("abcd")
    call = replace(CALL, params=SamplingParams(max_tokens=4), stop=("cd",))
    assert run(answered(scene, call)) == ["ab"]
    assert scene.engine.aborted == []


def test_text_that_only_began_a_stop_string_is_shown_at_the_end(scene: Scene) -> None:
    scene.engine.reply = reply("abc")
    assert run(answered(scene, replace(CALL, stop=("cd",)))) == ["abc"]


@pytest.mark.parametrize("front", [{"num_virtual_tokens": 20}, {"num_prefix_tokens": 20}])
@pytest.mark.parametrize(
    ("num_prompt", "wanted", "is_default", "given"),
    [(80, 28, False, 28), (80, 29, False, None), (100, 16, True, 8), (108, 16, True, None)],
)
def test_what_the_adapter_puts_in_front_takes_part_of_the_context(
    scene: Scene,
    front: dict[str, int],
    num_prompt: int,
    wanted: int,
    is_default: bool,
    given: int | None,
) -> None:
    scene.registry = FakeRegistry(replace(adapter_ref("alpha"), **front))
    call = replace(
        CALL,
        prompts=(TokenPrompt((97,) * num_prompt),),
        params=SamplingParams(max_tokens=wanted),
        is_shortened_to_fit=is_default,
    )
    if given is None:
        with pytest.raises(PromptTooLong, match=f"128.*{num_prompt}.*adapter puts 20 in front"):
            run(answered(scene, call))
        return
    run(answered(scene, call))
    assert scene.engine.submitted[0].params.max_tokens == given
    assert scene.engine.submitted[0].prompt_ids == (97,) * num_prompt


def test_only_the_clients_tokens_are_counted(scene: Scene) -> None:
    scene.registry = FakeRegistry(replace(adapter_ref("alpha"), num_virtual_tokens=20))

    async def work() -> int:
        answer = await scene.handler().open(CALL)
        await texts(answer)
        await answer.aclose()
        return answer.num_prompt_tokens

    assert run(work()) == 3


def with_tasks(scene: Scene) -> Scene:
    scene.registry = FakeRegistry(replace(adapter_ref("alpha"), num_tasks=3))
    return scene


@pytest.mark.parametrize("task_id", [0, 2])
def test_a_task_reaches_the_engine(scene: Scene, task_id: int) -> None:
    run(answered(with_tasks(scene), replace(CALL, task_id=task_id, n=2)))
    assert [one.task_id for one in scene.engine.submitted] == [task_id, task_id]


@pytest.mark.parametrize("task_id", [None, -1, 3])
def test_a_multitask_adapter_needs_one_of_its_tasks(scene: Scene, task_id: int | None) -> None:
    with pytest.raises(InvalidRequest, match="3 tasks: task_id must be 0 to 2") as caught:
        run(answered(with_tasks(scene), replace(CALL, task_id=task_id)))
    assert caught.value.param == "task_id"
    assert scene.engine.submitted == []
    scene.assert_given_back()


@pytest.mark.parametrize("model", ["alpha", "tiny"])
def test_a_task_of_a_model_without_tasks_is_refused(scene: Scene, model: str) -> None:
    with pytest.raises(InvalidRequest, match="has no tasks") as caught:
        run(answered(scene, replace(CALL, model=model, task_id=0)))
    assert caught.value.param == "task_id"
    scene.assert_given_back()
