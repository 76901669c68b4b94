"""Who is in the next step: pure decisions over sequences, KV blocks and slots. No clock."""

import itertools
import math
from collections import deque
from dataclasses import dataclass

from service.adapters.residency import Residency
from service.core import NO_SLOT, FinishReason, TokenEvent
from service.engine.block_manager import BlockManager
from service.engine.sequence import Sequence, SequenceStatus
from service.engine.step_builder import StepBuilder
from service.step import SampledToken, Step, StepResult


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    max_num_seqs: int = 64
    """Sequences that run at once."""
    max_num_batched_tokens: int = 512
    """Rows of a step while nothing decodes."""
    max_mixed_prefill_tokens: int = 128
    """Prefill rows of a step while something decodes: bounds the inter-token latency."""
    max_overtakes: int = 64
    """Admissions a blocked sequence lets pass before nobody passes it any more."""
    chunked_prefill: bool = True
    """False: a prompt is computed in one step, whatever its length; the first one of a step may
    exceed the budget."""


class Scheduler:
    """Every step takes all decode rows and fills up with prefill rows to a budget.

    A sequence whose adapter finds no slot is passed over, up to `max_overtakes` times. When KV
    blocks run out, the youngest running sequence gives its blocks back and is recomputed later.
    """

    def __init__(self, config: SchedulerConfig, blocks: BlockManager, residency: Residency) -> None:
        self.config = config
        self.blocks = blocks
        self.residency = residency
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.num_preemptions = 0
        self.num_prefill_chunks = 0
        self._cooled: list[Sequence] = []
        self._stopped: list[str] = []
        self._started: list[Sequence] = []

    @property
    def has_work(self) -> bool:
        return bool(self.running or self.waiting)

    def add(self, sequence: Sequence) -> None:
        sequence.status = SequenceStatus.WAITING
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out wherever it stands; its blocks and its slot are free at once."""
        if sequence.status is SequenceStatus.RUNNING:
            self._stop(sequence)
        elif sequence.status is SequenceStatus.WAITING:
            self.waiting.remove(sequence)
        self._unhold(sequence)
        sequence.status = SequenceStatus.FINISHED

    def take_cooled(self) -> list[Sequence]:
        """Waiting sequences whose adapter was evicted meanwhile: they must be loaded again."""
        cooled, self._cooled = self._cooled, []
        return cooled

    def take_started(self) -> list[Sequence]:
        """Sequences that came into the batch, for the first time or again after a preemption."""
        started, self._started = self._started, []
        return started

    def take_stopped(self) -> list[str]:
        """Ids of sequences that have given back their blocks: finished, aborted or preempted."""
        stopped, self._stopped = self._stopped, []
        return stopped

    def schedule(self) -> Step | None:
        builder = StepBuilder()
        num_preemptions = self.num_preemptions
        for sequence in self._decoding_with_room():
            builder.add_decode(sequence)
        budget = self._prefill_budget(builder.num_rows)
        for sequence in [one for one in self.running if not one.is_decoding]:
            budget -= self._add_chunk(builder, sequence, budget)
        if self.num_preemptions == num_preemptions:
            self._admit(builder, budget)
        return builder.build() if builder.num_rows else None

    def postprocess(self, step: Step, result: StepResult) -> list[TokenEvent]:
        """Account for what the step computed; the events of all its sequences, one each."""
        running = {sequence.request_id: sequence for sequence in self.running}
        for segment in step.segments:
            self._advance(running[segment.request_id], segment.num_rows)
        for score, scored in zip(step.prompt_scores, result.prompt_logprobs, strict=True):
            running[score.request_id].prompt_logprobs.append(scored)
        for kept, logits in zip(step.kept_rows, result.kept, strict=True):
            running[kept.request_id].kept_logits[kept.position] = logits
        events = []
        for sample, token in zip(step.samples, result.tokens, strict=True):
            sequence = running[sample.request_id]
            sequence.output_ids.append(token.token_id)
            events.append(_token_event(sequence, token))
            if events[-1].is_terminal:
                self.remove(sequence)
        return events + self._finish_scored(step, running)

    def _advance(self, sequence: Sequence, num_rows: int) -> None:
        first = 0 if sequence.needs_prefix else sequence.num_computed
        sequence.num_computed += num_rows
        sequence.needs_prefix = False
        self.blocks.publish(sequence, first)

    def _finish_scored(self, step: Step, running: dict[str, Sequence]) -> list[TokenEvent]:
        """Sequences that wanted no token at all (`max_tokens` 0) end with their prefill."""
        events = []
        for segment in step.segments:
            sequence = running[segment.request_id]
            is_done = sequence.num_computed == sequence.num_tokens
            if sequence.request.params.max_tokens == 0 and is_done:
                self.remove(sequence)
                scores = tuple(sequence.prompt_logprobs) or None
                events.append(
                    TokenEvent(
                        sequence.request_id,
                        prompt_logprobs=scores,
                        num_cached_tokens=sequence.num_cached,
                        logits=sequence.all_kept_logits(),
                        finish_reason=FinishReason.LENGTH,
                    )
                )
        return events

    def _decoding_with_room(self) -> list[Sequence]:
        """Decoding sequences, oldest first, each with a block for its next token."""
        kept: list[Sequence] = []
        for sequence in list(self.running):
            if sequence.status is not SequenceStatus.RUNNING or not sequence.is_decoding:
                continue
            while not self.blocks.can_grow(sequence, sequence.num_tokens):
                victim = self.running[-1]
                self._preempt(victim)
                if victim is sequence:
                    break
            if sequence.status is SequenceStatus.RUNNING:
                self.blocks.grow(sequence, sequence.num_tokens)
                kept.append(sequence)
        return sorted(kept, key=lambda one: one.slot_at(one.num_computed))

    def _prefill_budget(self, num_decode: int) -> int:
        total = self.config.max_num_batched_tokens - num_decode
        return min(total, self.config.max_mixed_prefill_tokens) if num_decode else total

    def _admit(self, builder: StepBuilder, budget: int) -> None:
        # Admissions that the least patient of those passed over still allows.
        patience = math.inf
        for sequence in list(self.waiting):
            if budget <= 0 or len(self.running) >= self.config.max_num_seqs:
                return
            if not self._is_warm(sequence):
                continue
            if not self._fits(sequence, builder, budget):
                return
            if self._try_start(sequence):
                patience -= self._overtake(sequence)
                self.waiting.remove(sequence)
                budget -= self._add_chunk(builder, sequence, budget)
            else:
                patience = min(patience, self.config.max_overtakes - sequence.num_overtaken)
            if patience <= 0:
                return

    def _fits(self, sequence: Sequence, builder: StepBuilder, budget: int) -> bool:
        """A whole prompt waits for a step with room for it, or for one without other prompts."""
        is_first = not builder.has_prefill
        return self.config.chunked_prefill or is_first or sequence.num_tokens <= budget

    def _overtake(self, sequence: Sequence) -> bool:
        """Count against those who wait before `sequence`; False when nobody does."""
        passed = list(itertools.takewhile(lambda one: one is not sequence, self.waiting))
        for one in passed:
            one.num_overtaken += 1
        return bool(passed)

    def _try_start(self, sequence: Sequence) -> bool:
        shared = self.blocks.find_start(sequence)
        if shared is None:
            return False
        if sequence.adapter is not None:
            slot = self._try_activate(sequence)
            if slot is None:
                return False
            sequence.slot = slot
        sequence.status = SequenceStatus.RUNNING
        self.blocks.start(sequence, shared)
        sequence.begin(len(shared) * self.blocks.block_size)
        self.running.append(sequence)
        self._started.append(sequence)
        return True

    def _try_activate(self, sequence: Sequence) -> int | None:
        assert sequence.adapter is not None
        slot = self.residency.try_activate(sequence.adapter)
        if slot is not None:
            self._unhold(sequence)
        return slot

    def _is_warm(self, sequence: Sequence) -> bool:
        if sequence.adapter is None or self.residency.is_resident(sequence.adapter.digest):
            return True
        self.waiting.remove(sequence)
        self._cooled.append(sequence)
        return False

    def _unhold(self, sequence: Sequence) -> None:
        if sequence.holds_host and sequence.adapter is not None:
            sequence.holds_host = False
            self.residency.unhold(sequence.adapter.digest)

    def _add_chunk(self, builder: StepBuilder, sequence: Sequence, budget: int) -> int:
        num_rows = sequence.num_tokens - sequence.num_computed
        if self.config.chunked_prefill:
            num_rows = min(budget, num_rows)
        if num_rows <= 0:
            return 0
        builder.add_prefill(sequence, num_rows)
        self.num_prefill_chunks += 1
        return num_rows

    def _preempt(self, sequence: Sequence) -> None:
        if sequence.adapter is not None:
            # Before the slot is given up: an unloaded version lives as long as somebody holds it.
            sequence.holds_host = self.residency.hold(sequence.adapter.digest)
        self._stop(sequence)
        sequence.num_computed = 0
        sequence.status = SequenceStatus.WAITING
        self.waiting.appendleft(sequence)
        self.num_preemptions += 1

    def _stop(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._stopped.append(sequence.request_id)
        self.blocks.free(sequence)
        if sequence.adapter is not None:
            self.residency.deactivate(sequence.adapter.digest)
        sequence.slot = NO_SLOT


def _token_event(sequence: Sequence, token: SampledToken) -> TokenEvent:
    is_first = len(sequence.output_ids) == 1
    is_scored = sequence.request.params.prompt_logprobs is not None
    return TokenEvent(
        request_id=sequence.request_id,
        token_ids=(token.token_id,),
        logprobs=(token.logprob,) if token.logprob else (),
        prompt_logprobs=tuple(sequence.prompt_logprobs) if is_first and is_scored else None,
        num_cached_tokens=sequence.num_cached if is_first else None,
        finish_reason=sequence.finish_reason_after(token.token_id),
    )
