"""One running generation: its tokens, its KV blocks, where it stands."""

from dataclasses import dataclass, field
from enum import StrEnum

from service.core import AdapterRef, FinishReason, GenerationRequest, TokenLogprob


class SequenceStatus(StrEnum):
    COLD = "cold"
    """Waits outside the batch for its adapter to reach host memory."""
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(slots=True, eq=False)
class Sequence:
    request: GenerationRequest
    seed: int
    """The request's, or a random one drawn at admission."""
    eos_token_ids: frozenset[int]
    status: SequenceStatus = SequenceStatus.WAITING
    output_ids: list[int] = field(default_factory=list)
    block_table: list[int] = field(default_factory=list)
    num_computed: int = 0
    """Positions whose KV is in `block_table`."""
    slot: int = -1
    """Set while running; the residency keeps the adapter there as long."""
    holds_host: bool = False
    """The residency keeps the adapter's host copy for this sequence until it runs."""
    num_overtaken: int = 0
    """How many later sequences were admitted while this one could not be."""
    prompt_logprobs: list[TokenLogprob | None] = field(default_factory=list)
    deadline: float = 0.0
    """Monotonic seconds after which a cold sequence gives up."""

    @property
    def request_id(self) -> str:
        return self.request.request_id

    @property
    def adapter(self) -> AdapterRef | None:
        return self.request.adapter

    @property
    def num_tokens(self) -> int:
        return len(self.request.prompt_ids) + len(self.output_ids)

    @property
    def is_decoding(self) -> bool:
        """Only the newest token is missing from the KV store."""
        return bool(self.output_ids) and self.num_computed == self.num_tokens - 1

    def token_at(self, position: int) -> int:
        num_prompt = len(self.request.prompt_ids)
        if position < num_prompt:
            return self.request.prompt_ids[position]
        return self.output_ids[position - num_prompt]

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
