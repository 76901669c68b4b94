"""The nouns of one forward pass, plain lists throughout; the runner makes the tensors.

A *row* is one token position of the flattened batch, a *segment* the run of rows that one sequence
contributes to it.
"""

from dataclasses import dataclass, field

from service.core import Logits, SamplingParams, TokenLogprob


@dataclass(frozen=True, slots=True)
class Segment:
    """The consecutive rows of one sequence in a step."""

    request_id: str
    first_row: int
    num_rows: int
    context_len: int
    """Positions of the sequence that are in the KV store already: the first row's position."""
    block_table: list[int]
    """KV blocks that hold positions `0 .. context_len + num_rows - 1`."""
    final_len: int = 0
    """Positions that the model will have run when the sequence ends at its token limit, known from
    the start: rotary embeddings that depend on a sequence's length use this one throughout, since
    keys in the store cannot be rotated again. 0 = no more than there are after this step."""
    task_id: int = 0
    """Of a multitask adapter."""

    @property
    def end(self) -> int:
        """Positions of the sequence after this step."""
        return self.context_len + self.num_rows


@dataclass(frozen=True, slots=True)
class Sample:
    """A row whose logits give a sequence its next token."""

    request_id: str
    row: int
    params: SamplingParams
    seed: int
    choice: int
    position: int
    """Tokens generated before this one: with seed and choice the counter of the random draw."""
    prompt_ids: tuple[int, ...]
    output_ids: list[int]
    """Live list of the sequence: read during the step, never kept."""


@dataclass(frozen=True, slots=True)
class PromptScore:
    """A row whose logits tell how likely the next *prompt* token was."""

    request_id: str
    row: int
    token_id: int
    num_top: int


@dataclass(frozen=True, slots=True)
class VirtualRow:
    """A row whose embedding is replaced by a vector of the slot's prompt table."""

    row: int
    slot: int
    index: int
    """Row of the prompt table: `task_id * num_virtual_tokens + position`."""


@dataclass(frozen=True, slots=True)
class PrefixWrite:
    """Learned keys and values of a slot that have to be in the KV store before the step runs."""

    slot: int
    block_table: list[int]
    """Blocks that hold positions `0 .. num_prefix_tokens - 1`."""


@dataclass(frozen=True, slots=True)
class KeptRow:
    """A row whose logits are reported as they are."""

    request_id: str
    row: int
    position: int


@dataclass(frozen=True, slots=True)
class SlotLoad:
    """A copy from host memory into a slot that has to happen before the step runs."""

    digest: str
    slot: int
    offset: int
    """Bytes from the start of the device arena."""


@dataclass(frozen=True, slots=True)
class ResidencyPlan:
    """What the pool has to do before the next step, in this order."""

    evicted_slots: list[int]
    evicted_hosts: list[str]
    """Digests whose host copy is given up."""
    loads: list[SlotLoad]


@dataclass(frozen=True, slots=True)
class Step:
    """One forward over a flattened batch: decode rows first, sorted by slot, then chunks."""

    token_ids: list[int]
    """[T]"""
    positions: list[int]
    """[T] position of the row in its own sequence"""
    row_slot: list[int]
    """[T] slot of the row's adapter or NO_SLOT"""
    segments: list[Segment]
    num_decode: int
    """The first `num_decode` segments have one row each and are past their prompt."""
    samples: list[Sample]
    prompt_scores: list[PromptScore]
    virtual_rows: list[VirtualRow] = field(default_factory=list)
    """Their `token_ids` are placeholders."""
    prefix_writes: list[PrefixWrite] = field(default_factory=list)
    kept_rows: list[KeptRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SampledToken:
    token_id: int
    logprob: TokenLogprob | None


@dataclass(frozen=True, slots=True)
class StepResult:
    """In the order of `Step.samples`, `Step.prompt_scores` and `Step.kept_rows`."""

    tokens: list[SampledToken]
    prompt_logprobs: list[TokenLogprob]
    kept: list[Logits] = field(default_factory=list)
    """`[vocab]` float32 each"""
