"""A running answer: owns the engine's sequences and the adapter version until it is closed."""

import time
from collections.abc import AsyncIterator, Callable, Sequence

from service.core import AdapterRef
from service.handlers.choice import ChoiceText, Delta
from service.handlers.merge import MergedStreams
from service.telemetry import Metrics
from service.text import Tokenizer


class Answer:
    """Iterate it once, close it always."""

    def __init__(
        self,
        adapter: AdapterRef | None,
        tokenizer: Tokenizer,
        num_prompt_tokens: int,
        choices: Sequence[ChoiceText],
        events: MergedStreams,
        arrived: float,
        metrics: Metrics,
        release: Callable[[], None],
    ) -> None:
        self.adapter = adapter
        self.tokenizer = tokenizer
        self.num_prompt_tokens = num_prompt_tokens
        self.seconds_to_first_token: float | None = None
        self._choices = choices
        self._events = events
        self._arrived = arrived
        self._metrics = metrics
        self._release = release
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

    async def __aiter__(self) -> AsyncIterator[Delta]:
        """Raises what failed: the whole call fails with its first failed sequence."""
        while (arrived := await self._events.next()) is not None:
            index, event = arrived
            choice = self._choices[index]
            if event.token_ids:
                self._measure(index, len(event.token_ids))
            delta = choice.add(event)
            if choice.is_finished and not event.is_terminal:
                await self._events.close(index)
            if delta is not None:
                yield delta

    async def aclose(self) -> None:
        """Abort what still runs and give the adapter version back; only the first call acts."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._events.aclose()
        finally:
            self._release()
            self._metrics.generation_tokens.inc(self.num_generated_tokens)

    def _measure(self, index: int, num_tokens: int) -> None:
        now, last = time.monotonic(), self._last_token_at[index]
        if last:
            self._metrics.inter_token_latency.observe((now - last) / num_tokens)
        elif self.seconds_to_first_token is None:
            self.seconds_to_first_token = now - self._arrived
            self._metrics.time_to_first_token.observe(self.seconds_to_first_token)
        self._last_token_at[index] = now
