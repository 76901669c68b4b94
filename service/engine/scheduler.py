"""Who is in the next step: pure decisions over sequences, KV blocks and slots. No clock."""

import math
from dataclasses import dataclass

from service.adapters.residency import Residency
from service.core import NO_SLOT, FinishReason, TokenEvent
from service.engine.activity import Tally
from service.engine.block_manager import BlockManager
from service.engine.placement import Placement
from service.engine.policy import SchedulingPolicy
from service.engine.prefill_pace import PrefillPace
from service.engine.prefill_rows import PrefillRows
from service.engine.sequence import Sequence, SequenceStatus
from service.engine.step_builder import StepBuilder
from service.engine.turns import Turns
from service.engine.waiting import WaitingQueue
from service.step import SampledToken, Step, StepResult


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    max_num_seqs: int = 64
    """Sequences that run at once."""
    max_num_batched_tokens: int = 512
    """Rows of a step while nothing decodes."""
    max_mixed_prefill_tokens: int | None = None
    """Prefill rows of a step while something decodes: bounds the inter-token latency. None = by
    what steps take."""
    max_overtakes: int = 64
    """Admissions that a sequence lets pass: the one that cannot start in its turn before nobody
    passes it any more, the oldest of all before its turn comes whatever the policy says."""
    chunked_prefill: bool = True
    """False: a prompt is computed in one step, whatever its length; the first one of a step may
    exceed the budget."""
    max_copied_bytes: int = 32 << 20
    """Adapters that a step beside running ones brings to the device; the first may exceed it."""
    max_copied_adapters: int = 4
    """The same as a number: each costs its sites, however small it is."""
    double_position: float = math.inf
    """Position at which a prefill row takes twice the time of one at the start of its prompt."""


class Scheduler:
    """Every step takes all decode rows and fills up with prefill rows to a budget.

    The policy says whose turn it is. A sequence that finds no slot or no blocks is passed over, up
    to `max_overtakes` times, so that nobody starves under any policy. When KV blocks run out, the
    running sequence that ranks last gives its blocks back and is recomputed later; the oldest one
    never does, so that there is always one that gets to its end.
    """

    def __init__(
        self,
        config: SchedulerConfig,
        blocks: BlockManager,
        residency: Residency,
        policy: SchedulingPolicy,
    ) -> None:
        self.config = config
        self.blocks = blocks
        self.residency = residency
        self.policy = policy
        self.waiting = WaitingQueue(policy)
        self.running: list[Sequence] = []
        self.running_tally = Tally()
        self.num_preemptions = 0
        self.num_prefill_chunks = 0
        self._pace = PrefillPace(config.max_mixed_prefill_tokens)
        self._load = (0, 0)
        """Rows of the last step that decode, and the price of its prefill rows."""
        self._cooled: list[Sequence] = []
        self._stopped: list[str] = []
        self._started: list[Sequence] = []

    @property
    def has_work(self) -> bool:
        return bool(self.running or self.waiting)

    @property
    def _has_place(self) -> bool:
        """For somebody who waits: without one nobody has to be put in order."""
        return bool(self.waiting) and len(self.running) < self.config.max_num_seqs

    def add(self, sequence: Sequence) -> None:
        sequence.status = SequenceStatus.WAITING
        self.waiting.add(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out wherever it stands; its blocks and its slot are free at once."""
        if sequence.status is SequenceStatus.RUNNING:
            self._stop(sequence)
        elif sequence.status is SequenceStatus.WAITING:
            self.waiting.remove(sequence)
        sequence.release_host(self.residency)
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
        num_decode = builder.num_rows
        prefills = sorted(
            (one for one in self.running if not one.is_decoding), key=self.policy.rank
        )
        budget = self._prefill_budget(num_decode)
        double_position = self.config.double_position if num_decode else math.inf
        rows = PrefillRows(budget, prefills, self.config.chunked_prefill, double_position)
        if self.num_preemptions == num_preemptions and self._has_place:
            self._admit(rows, prefills)
        for sequence in prefills:
            rows.give(sequence)
        for sequence, num_rows in rows:
            builder.add_prefill(sequence, num_rows)
            self.num_prefill_chunks += 1
        self._load = num_decode, rows.price
        return builder.build() if builder.num_rows else None

    def note_duration(self, seconds: float) -> None:
        """How long the forward pass of the last step took."""
        self._pace.note(*self._load, seconds)

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
            sequence.num_charged += 1
            self.policy.charge(sequence, num_generated=1)
            events.append(_token_event(sequence, token))
            if events[-1].is_terminal:
                self.remove(sequence)
        return events + self._finish_scored(step, running)

    def _advance(self, sequence: Sequence, num_rows: int) -> None:
        num_before = sequence.num_computed
        first = 0 if sequence.needs_prefix else num_before
        sequence.num_computed += num_rows
        sequence.needs_prefix = False
        self.policy.charge(sequence, num_prompt=sequence.take_uncharged(num_before))
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
        """Decoding sequences, by slot, each with a block for its next token."""
        kept = [one for one in self.running if one.is_decoding]
        if len(kept) > self.blocks.num_free:
            kept = self._make_room(kept)
        for sequence in kept:
            self.blocks.grow(sequence, sequence.num_tokens)
        return sorted(kept, key=lambda one: one.slot_at(one.num_computed))

    def _make_room(self, decoding: list[Sequence]) -> list[Sequence]:
        """Those of `decoding` that go on, each with its block; others may have to give way."""
        oldest = min(self.running, key=lambda one: one.arrival)
        kept: list[Sequence] = []
        in_turn = sorted(decoding, key=lambda one: (one is not oldest, self.policy.rank(one)))
        for sequence in in_turn:
            while sequence.status is SequenceStatus.RUNNING and not self._has_room(sequence):
                others = [one for one in self.running if one is not oldest]
                self._preempt(max(others or self.running, key=self.policy.rank))
            if sequence.status is SequenceStatus.RUNNING:
                self.blocks.grow(sequence, sequence.num_tokens)
                kept.append(sequence)
        return [one for one in kept if one.status is SequenceStatus.RUNNING]

    def _has_room(self, sequence: Sequence) -> bool:
        return self.blocks.can_grow(sequence, sequence.num_tokens)

    def _prefill_budget(self, num_decode: int) -> int:
        total = self.config.max_num_batched_tokens - num_decode
        return min(total, self._pace.rows_beside(num_decode)) if num_decode else total

    def _admit(self, rows: PrefillRows, prefills: list[Sequence]) -> None:
        """Start who waits, in turn with the running prefills, as long as there are rows.

        Rows are charged as they are computed. Only while a step is put together are those who
        start charged with their whole prompt, so that the next in turn is chosen knowing it.
        """
        turns = Turns(self.waiting, self.config.max_overtakes)
        # Only running streams notice how long the copies take.
        config = self.config
        limits = (config.max_copied_bytes, config.max_copied_adapters)
        placement = Placement(self.residency, *(limits if self.running else (math.inf, math.inf)))
        promised: list[tuple[Sequence, int]] = []
        for sequence in turns.in_order(prefills):
            if rows.is_spent or turns.are_over or not self.blocks.num_free:
                break
            if sequence.status is SequenceStatus.RUNNING:
                rows.give(sequence)
                continue
            if len(self.running) >= self.config.max_num_seqs or not rows.fits(sequence):
                break
            if not self._is_warm(sequence) or _is_for_later(sequence, placement):
                continue
            if self._try_start(sequence, placement):
                turns.count_start(sequence)
                rows.give(sequence)
                promised.append((sequence, sequence.num_uncharged))
                self.policy.charge(*promised[-1])
            else:
                turns.count_blocked(sequence)
        for sequence, num_prompt in promised:
            self.policy.charge(sequence, -num_prompt)

    def _try_start(self, sequence: Sequence, placement: Placement) -> bool:
        adapter = sequence.adapter
        if adapter is not None and not placement.may_fit(adapter):
            return False
        shared = self.blocks.find_start(sequence)
        if shared is None:
            return False
        if adapter is not None:
            slot = placement.try_activate(adapter)
            if slot is None:
                return False
            sequence.release_host(self.residency)
            sequence.slot = slot
        self.waiting.remove(sequence)
        sequence.status = SequenceStatus.RUNNING
        self.blocks.start(sequence, shared)
        sequence.begin(len(shared) * self.blocks.block_size)
        self.running.append(sequence)
        self.running_tally.add(sequence)
        self._started.append(sequence)
        return True

    def _is_warm(self, sequence: Sequence) -> bool:
        if sequence.adapter is None or self.residency.is_resident(sequence.adapter.digest):
            return True
        self.waiting.remove(sequence)
        self._cooled.append(sequence)
        return False

    def _preempt(self, sequence: Sequence) -> None:
        if sequence.adapter is not None:
            # Before the slot is given up: an unloaded version lives as long as somebody holds it.
            sequence.holds_host = self.residency.hold(sequence.adapter.digest)
        self._stop(sequence)
        sequence.num_computed = 0
        sequence.status = SequenceStatus.WAITING
        self.waiting.add(sequence)
        self.num_preemptions += 1

    def _stop(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.running_tally.remove(sequence)
        self._stopped.append(sequence.request_id)
        self.blocks.free(sequence)
        if sequence.adapter is not None:
            self.residency.deactivate(sequence.adapter.digest)
        sequence.slot = NO_SLOT


def _is_for_later(sequence: Sequence, placement: Placement) -> bool:
    return sequence.adapter is not None and placement.is_for_later(sequence.adapter)


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
