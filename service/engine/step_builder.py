"""Collects the rows of a step; the one place that knows how a sequence becomes rows."""

from service.engine.sequence import Sequence
from service.step import KeptRow, PrefixWrite, PromptScore, Sample, Segment, Step, VirtualRow


class StepBuilder:
    """Add all decode rows first, then the prefill chunks."""

    def __init__(self) -> None:
        self._token_ids: list[int] = []
        self._positions: list[int] = []
        self._row_slot: list[int] = []
        self._segments: list[Segment] = []
        self._num_decode = 0
        self._samples: list[Sample] = []
        self._prompt_scores: list[PromptScore] = []
        self._virtual_rows: list[VirtualRow] = []
        self._prefix_writes: list[PrefixWrite] = []
        self._kept_rows: list[KeptRow] = []

    @property
    def num_rows(self) -> int:
        return len(self._token_ids)

    def add_decode(self, sequence: Sequence) -> None:
        self._add_rows(sequence, 1)
        self._num_decode += 1

    def add_prefill(self, sequence: Sequence, num_rows: int) -> None:
        if sequence.needs_prefix:
            self._prefix_writes.append(PrefixWrite(sequence.slot, sequence.block_table))
        self._add_rows(sequence, num_rows)

    def build(self) -> Step:
        return Step(
            token_ids=self._token_ids,
            positions=self._positions,
            row_slot=self._row_slot,
            segments=self._segments,
            num_decode=self._num_decode,
            samples=self._samples,
            prompt_scores=self._prompt_scores,
            virtual_rows=self._virtual_rows,
            prefix_writes=self._prefix_writes,
            kept_rows=self._kept_rows,
        )

    def _add_rows(self, sequence: Sequence, num_rows: int) -> None:
        first_row, context_len = self.num_rows, sequence.num_computed
        positions = range(context_len, context_len + num_rows)
        self._token_ids.extend(sequence.token_ids(positions.start, positions.stop))
        self._positions.extend(positions)
        self._row_slot.extend(map(sequence.slot_at, positions))
        self._segments.append(
            Segment(
                sequence.request_id,
                first_row,
                num_rows,
                context_len,
                sequence.block_table,
                sequence.final_len,
                sequence.request.task_id,
            )
        )
        self._replace_embeddings(sequence, first_row, positions)
        self._score_prompt(sequence, first_row, positions)
        if sequence.request.keep_logits:
            self._keep_logits(sequence, first_row, positions)
        is_complete = positions.stop == sequence.num_tokens
        if is_complete and sequence.request.params.max_tokens > 0:
            self._samples.append(_sample(sequence, first_row + num_rows - 1))

    def _replace_embeddings(self, sequence: Sequence, first_row: int, positions: range) -> None:
        num_virtual = sequence.adapter.num_virtual_tokens if sequence.adapter else 0
        for position in range(positions.start, min(positions.stop, num_virtual)):
            row = first_row + position - positions.start
            index = sequence.request.task_id * num_virtual + position
            self._virtual_rows.append(VirtualRow(row, sequence.slot, index))

    def _keep_logits(self, sequence: Sequence, first_row: int, positions: range) -> None:
        for row, position in enumerate(positions, start=first_row):
            if position >= sequence.num_front:
                self._kept_rows.append(KeptRow(sequence.request_id, row, position))

    def _score_prompt(self, sequence: Sequence, first_row: int, positions: range) -> None:
        num_top = sequence.request.params.prompt_logprobs
        if num_top is None:
            return
        prompt_ids, num_front = sequence.request.prompt_ids, sequence.num_front
        if not sequence.prompt_logprobs:
            sequence.prompt_logprobs.append(None)
        # A recomputed sequence has some of its scores already.
        start = max(positions.start, num_front + len(sequence.prompt_logprobs) - 1)
        for position in range(start, min(positions.stop, num_front + len(prompt_ids) - 1)):
            self._prompt_scores.append(
                PromptScore(
                    request_id=sequence.request_id,
                    row=first_row + position - positions.start,
                    token_id=prompt_ids[position + 1 - num_front],
                    num_top=num_top,
                )
            )


def _sample(sequence: Sequence, row: int) -> Sample:
    request = sequence.request
    return Sample(
        request_id=request.request_id,
        row=row,
        params=request.params,
        seed=sequence.seed,
        choice=request.choice,
        position=len(sequence.output_ids),
        prompt_ids=request.prompt_ids,
        output_ids=sequence.output_ids,
    )
