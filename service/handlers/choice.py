"""One choice of an answer: from the engine's events to text, cut at stop strings."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from service.core import FinishReason, GenerationRequest, Timeline, TokenEvent, TokenLogprob
from service.errors import EngineFailed
from service.text import IncrementalDetokenizer, StopChecker, Tokenizer


@dataclass(frozen=True, slots=True)
class PlacedLogprob:
    """One token's log-probabilities and where its text begins in the choice's text."""

    token_id: int
    logprob: float | None
    """None for the first token of an echoed prompt, which nothing predicts."""
    top: tuple[tuple[int, float], ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Delta:
    """What became certain of one choice: text, log-probabilities or the end, never nothing."""

    choice: int
    text: str
    finish_reason: FinishReason | None = None
    logprobs: tuple[PlacedLogprob, ...] = ()


class ChoiceText:
    """Log-probabilities are held back with the text that they belong to, and cut with it."""

    def __init__(
        self,
        index: int,
        request: GenerationRequest,
        tokenizer: Tokenizer,
        stops: Sequence[str],
        echo: str = "",
    ) -> None:
        self.num_tokens = 0
        """Generated tokens that the answer used, the one that ended it included."""
        self.num_cached_tokens = 0
        """Tokens of the prompt that were not computed again."""
        self.timeline: Timeline | None = None
        """The engine's latest; None before the first token."""
        self.is_finished = False
        self.is_first_of_prompt = request.choice == 0
        self._index = index
        self._prompt_ids = request.prompt_ids
        self._tokenizer = tokenizer
        self._detokenizer = IncrementalDetokenizer(tokenizer, request.prompt_ids)
        self._stop_checker = StopChecker(stops)
        self._is_cut = False
        self._echo = echo
        self._num_decoded = len(echo)
        self._num_released = 0
        self._unreleased: deque[PlacedLogprob] = deque()
        params = request.params
        eos = frozenset() if params.ignore_eos else tokenizer.eos_token_ids
        self._ending_ids = eos.union(params.stop_token_ids)

    def add(self, event: TokenEvent) -> Delta | None:
        """None when the event made nothing certain. Raises the error of a failed sequence."""
        self.timeline = event.timeline or self.timeline
        if event.error is not None:
            raise event.error
        if event.finish_reason in (FinishReason.ABORT, FinishReason.ERROR):
            raise EngineFailed("The engine gave the sequence up.")
        self.num_cached_tokens += event.num_cached_tokens or 0
        text, self._echo = self._echo, ""
        if event.prompt_logprobs is not None:
            self._unreleased.extend(self._place_prompt(event.prompt_logprobs))
        text += self._consume(event)
        reason = event.finish_reason
        if reason is not None and not self._is_cut:
            text += self._rest()
        return self._delta(text, FinishReason.STOP if self._is_cut else reason)

    def _consume(self, event: TokenEvent) -> str:
        text = ""
        for i, token_id in enumerate(event.token_ids):
            self.num_tokens += 1
            if event.finish_reason is FinishReason.STOP and token_id in self._ending_ids:
                break
            if event.logprobs:
                self._unreleased.append(_place(event.logprobs[i], self._num_decoded))
            text += self._cut(self._detokenizer.add(token_id))
            if self._is_cut:
                break
        return text

    def _cut(self, decoded: str) -> str:
        self._num_decoded += len(decoded)
        result = self._stop_checker.add(decoded)
        self._is_cut = result.stop is not None
        return result.text

    def _rest(self) -> str:
        text = self._cut(self._detokenizer.flush())
        return text if self._is_cut else text + self._stop_checker.flush()

    def _delta(self, text: str, reason: FinishReason | None) -> Delta | None:
        self._num_released += len(text)
        self.is_finished = reason is not None
        logprobs: tuple[PlacedLogprob, ...] = ()
        if self._unreleased:
            logprobs = tuple(self._release(everything=self.is_finished and not self._is_cut))
        if not (text or logprobs or reason):
            return None
        return Delta(self._index, text, reason, logprobs)

    def _release(self, everything: bool) -> Iterator[PlacedLogprob]:
        waiting = self._unreleased
        while waiting and (everything or waiting[0].offset < self._num_released):
            yield waiting.popleft()

    def _place_prompt(self, logprobs: Sequence[TokenLogprob | None]) -> Iterator[PlacedLogprob]:
        detokenizer = IncrementalDetokenizer(self._tokenizer)
        offset = 0
        for token_id, logprob in zip(self._prompt_ids, logprobs, strict=True):
            yield (
                PlacedLogprob(token_id, None, (), offset)
                if logprob is None
                else _place(logprob, offset)
            )
            offset += len(detokenizer.add(token_id))


def _place(logprob: TokenLogprob, offset: int) -> PlacedLogprob:
    return PlacedLogprob(logprob.token_id, logprob.logprob, logprob.top, offset)
