"""One running generation: its tokens, its KV blocks, where it stands.

Positions count from the adapter's front tokens: the prompt begins at `num_front`.
"""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from service.adapters.residency import Residency
from service.core import (
    NO_SLOT,
    AdapterRef,
    FinishReason,
    GenerationRequest,
    Logits,
    Timeline,
    TokenLogprob,
)
from service.engine.invocation import first_adapted_position

FRONT_TOKEN_ID = 0
"""Placeholder of a position that has no token."""


class SequenceStatus(StrEnum):
    COLD = "cold"
    """Waits outside the batch for its adapter to reach host memory."""
    WARMING = "warming"
    """Has no rows; waits for its adapter to find room on the device."""
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(slots=True, eq=False)
class Sequence:
    request: GenerationRequest
    seed: int
    """The request's, or a random one drawn at admission."""
    eos_token_ids: frozenset[int]
    arrival: int = 0
    """Serial number: what came earlier has the lower one, also after a load or a preemption."""
    status: SequenceStatus = SequenceStatus.WAITING
    output_ids: list[int] = field(default_factory=list)
    block_table: list[int] = field(default_factory=list)
    block_keys: list[bytes] = field(default_factory=list)
    """Of its first full blocks, as far as the prefix cache has asked for them."""
    num_computed: int = 0
    """Positions whose KV is in `block_table`."""
    slot: int = NO_SLOT
    """Set while running; the residency keeps the adapter there as long."""
    needs_prefix: bool = False
    """The adapter's learned keys and values are not in `block_table` yet."""
    holds_host: bool = False
    """The residency keeps the adapter's host copy for this sequence until it runs."""
    num_cached: int | None = None
    """Prompt tokens that were in the KV store already when it first started."""
    num_overtaken: int = 0
    """How many others started while it was this one's turn, or while it was the oldest of all."""
    num_charged: int = 0
    """Positions that its tenant has been charged for; a recomputed one is not charged again."""
    prompt_logprobs: list[TokenLogprob | None] = field(default_factory=list)
    kept_logits: dict[int, Logits] = field(default_factory=dict)
    """By position; a recomputed sequence writes them again."""
    deadline: float = 0.0
    """Monotonic seconds after which a cold sequence gives up."""
    was_warm: bool = False
    """It was told so: the limit that it set itself to a load is no longer counted."""
    timeline: Timeline = field(default_factory=lambda: Timeline(0.0))
    num_front: int = field(init=False)
    """Positions that the adapter puts in front of the prompt."""
    first_adapted: int | None = field(init=False)
    """Position from which the adapter acts; None = nowhere."""

    def __post_init__(self) -> None:
        self.num_front = self.adapter.num_front_tokens if self.adapter else 0
        self.first_adapted = first_adapted_position(self.request)

    @property
    def request_id(self) -> str:
        return self.request.request_id

    @property
    def adapter(self) -> AdapterRef | None:
        return self.request.adapter

    @property
    def adapter_name(self) -> str:
        """All versions of a name share it; empty is the base, to a policy one of them."""
        return self.adapter.name if self.adapter else ""

    def release_host(self, residency: Residency) -> None:
        """It keeps the host copy no longer, if it did."""
        if self.holds_host and self.adapter is not None:
            self.holds_host = False
            residency.unhold(self.adapter.digest)

    @property
    def num_prefix(self) -> int:
        """Positions at the front that have keys and values but no rows."""
        return self.adapter.num_prefix_tokens if self.adapter else 0

    @property
    def num_tokens(self) -> int:
        """Positions that are known, those in front of the prompt included."""
        return self.num_front + len(self.request.prompt_ids) + len(self.output_ids)

    @property
    def final_len(self) -> int:
        """Positions that the model runs if the sequence ends at its limit; the last token has none.

        A sequence whose `final_len` is beyond a rotary threshold counts as long from its first row
        on, whether or not it gets there: what it is served does not depend on how it was scheduled.
        """
        num_prompt, max_tokens = len(self.request.prompt_ids), self.request.params.max_tokens
        return self.num_front + num_prompt + max(0, max_tokens - 1)

    @property
    def is_decoding(self) -> bool:
        """Only the newest token is missing from the KV store."""
        return bool(self.output_ids) and self.num_computed == self.num_tokens - 1

    def begin(self, num_shared: int) -> None:
        """Start running, with the positions before `num_shared` computed already.

        A learned prefix has no rows: it is written with the first ones, unless it is shared.
        """
        self.needs_prefix = self.num_prefix > num_shared
        self.num_computed = max(self.num_prefix, num_shared)
        if self.num_cached is None:
            self.num_cached = max(0, num_shared - self.num_front)

    @property
    def num_uncharged(self) -> int:
        """Rows that are still to be computed for the first time."""
        return max(0, self.num_tokens - max(self.num_computed, self.num_charged))

    def take_uncharged(self, num_before: int) -> int:
        """Rows computed since `num_before` that nobody was charged for; they are charged now."""
        num_rows = max(0, self.num_computed - max(num_before, self.num_charged))
        self.num_charged = max(self.num_charged, self.num_computed)
        return num_rows

    def token_ids(self, start: int, stop: int) -> list[int]:
        """Of the positions `start .. stop - 1`."""
        front = [FRONT_TOKEN_ID] * (min(stop, self.num_front) - start)
        start, stop = max(0, start - self.num_front), max(0, stop - self.num_front)
        num_prompt = len(self.request.prompt_ids)
        prompt = self.request.prompt_ids[start:stop]
        output = self.output_ids[max(0, start - num_prompt) : max(0, stop - num_prompt)]
        return [*front, *prompt, *output]

    @property
    def needs_every_row(self) -> bool:
        """The request asks for something of every prompt token: none may be taken as computed."""
        return self.request.keep_logits or self.request.params.prompt_logprobs is not None

    def all_kept_logits(self) -> Logits | None:
        """`[prompt tokens, vocab]`; None when the request wants none."""
        if not self.kept_logits:
            return None
        return np.stack([self.kept_logits[position] for position in sorted(self.kept_logits)])

    def slot_at(self, position: int) -> int:
        is_adapted = self.first_adapted is not None and position >= self.first_adapted
        return self.slot if is_adapted else NO_SLOT

    def finish_reason_after(self, token_id: int) -> FinishReason | None:
        """Why the sequence ends with `token_id`, the newest of `output_ids`; None = goes on."""
        params = self.request.params
        if token_id in params.stop_token_ids:
            return FinishReason.STOP
        if token_id in self.eos_token_ids and not params.ignore_eos:
            return FinishReason.STOP
        if len(self.output_ids) >= params.max_tokens:
            return FinishReason.LENGTH
        return None
