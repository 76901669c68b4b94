"""A running answer: owns the engine's sequences and the adapter version until it is closed."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from service.core import AdapterRef, Timeline
from service.handlers.accounting import AnswerSink, AnswerSummary, Outcome, hand_out
from service.handlers.choice import ChoiceText, Delta
from service.handlers.merge import MergedStreams
from service.handlers.quotas import Admission
from service.metrics import Metrics
from service.tenancy import Principal
from service.text import Tokenizer


class Answer:
    """Iterate it once, close it always; its summary goes to the sinks when it is closed."""

    def __init__(
        self,
        request_id: str,
        principal: Principal,
        model: str,
        adapter: AdapterRef | None,
        tokenizer: Tokenizer,
        num_prompt_tokens: int,
        choices: Sequence[ChoiceText],
        events: MergedStreams,
        arrived: float,
        metrics: Metrics,
        release: Callable[[], None],
        admission: Admission,
        sinks: Sequence[AnswerSink] = (),
        is_fallback: bool = False,
    ) -> None:
        """`model` is who answers, for a fallback not the one that was asked for; `arrived` in
        monotonic seconds; `sinks` are told how it ended."""
        self.request_id = request_id
        self.principal = principal
        self.model = model
        self.is_fallback = is_fallback
        self.adapter = adapter
        self.tokenizer = tokenizer
        self.num_prompt_tokens = num_prompt_tokens
        self.seconds_to_first_token: float | None = None
        self._choices = choices
        self._events = events
        self._arrived = arrived
        self._metrics = metrics
        self._release = release
        self.rates = admission.rates
        """What its tenant had left when it was admitted."""
        self._admission = admission
        self._sinks = sinks
        self._outcome = Outcome.ABORTED
        self._last_token_at = [0.0] * len(choices)
        self._is_closed = False

    @property
    def num_choices(self) -> int:
        return len(self._choices)

    @property
    def num_generated_tokens(self) -> int:
        return sum(choice.num_tokens for choice in self._choices)

    @property
    def num_cached_tokens(self) -> int:
        """Prompts count once however many choices they have, so the first choice tells."""
        return sum(one.num_cached_tokens for one in self._choices if one.is_first_of_prompt)

    @property
    def timelines(self) -> list[Timeline]:
        """Of the sequences that have a token, or have failed, up to their latest token."""
        pairs = zip(self._choices, self._last_token_at, strict=True)
        return [_until(one.timeline, last) for one, last in pairs if one.timeline is not None]

    @property
    def slowest(self) -> Timeline | None:
        return max(self.timelines, key=lambda one: one.seconds, default=None)

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self

    async def __anext__(self) -> Delta:
        """Raises what failed: the whole call fails with its first failed sequence."""
        try:
            while (arrived := await self._events.next()) is not None:
                index, event = arrived
                choice = self._choices[index]
                if event.token_ids:
                    self._measure(index, len(event.token_ids))
                delta = choice.add(event)
                if choice.is_finished and not event.is_terminal:
                    await self._events.close(index)
                if choice.is_finished and all(one.is_finished for one in self._choices):
                    self._outcome = Outcome.COMPLETED
                if delta is not None:
                    return delta
        except Exception:
            self._outcome = Outcome.FAILED
            raise
        raise StopAsyncIteration

    def summary(self) -> AnswerSummary:
        """As of now; once closed, as of its end."""
        return AnswerSummary(
            principal=self.principal,
            request_id=self.request_id,
            adapter=self.adapter,
            num_prompt_tokens=self.num_prompt_tokens,
            num_cached_tokens=self.num_cached_tokens,
            num_generated_tokens=self.num_generated_tokens,
            outcome=self._outcome,
            seconds=time.monotonic() - self._arrived,
            seconds_to_first_token=self.seconds_to_first_token,
            timelines=tuple(self.timelines),
        )

    async def aclose(self) -> None:
        """Abort what still runs and give the adapter version back; only the first call acts."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._events.aclose()
        finally:
            self._release()
            hand_out(self.summary(), self._sinks)
            await self._admission.settle(self.num_prompt_tokens + self.num_generated_tokens)

    def _measure(self, index: int, num_tokens: int) -> None:
        now, last = time.monotonic(), self._last_token_at[index]
        if last:
            self._metrics.inter_token_latency.observe((now - last) / num_tokens)
        elif self.seconds_to_first_token is None:
            self.seconds_to_first_token = now - self._arrived
            self._metrics.time_to_first_token.observe(self.seconds_to_first_token)
        self._last_token_at[index] = now


def _until(timeline: Timeline, last_token_at: float) -> Timeline:
    """A sequence that was stopped from here has no event that tells the engine's last token."""
    if timeline.last_token is None or timeline.last_token >= last_token_at:
        return timeline
    return replace(timeline, last_token=last_token_at)
