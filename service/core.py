"""The nouns every layer shares: frozen, plain, free of torch and of HTTP.

Words are those of the field: a *row* is one token position of the flattened batch, a *slot* is an
integer that addresses one adapter version's terms on the device, a *segment* is the run of rows
that one sequence contributes to a step.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]

NO_SLOT = -1
"""`row_slot` of a row that no adapter touches."""


class FinishReason(StrEnum):
    """Why a generation ended; the first two are OpenAI's words."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """One immutable version of an adapter, bound to a request for the request's whole life."""

    name: str
    version: int
    digest: str
    """sha256 (hex) of the content; KV state and every cache tier are keyed by it, never by name."""
    compiled_bytes: int
    """Payload bytes of the compiled form in the run dtype: what one slot takes."""
    num_virtual_tokens: int = 0
    """Learned embeddings in front of every prompt: rows of the model, positions `0 .. n - 1`."""
    num_prefix_tokens: int = 0
    """Learned keys and values in front of every prompt: positions `0 .. n - 1` without rows."""
    invocation_tokens: tuple[int, ...] = ()
    """aLoRA: rows before the last occurrence of these ids in the prompt belong to the base."""
    num_tasks: int = 0
    """Of a multitask adapter, whose requests must say which; 0 = it has no tasks."""
    is_summable: bool = False
    """Nothing but low-rank products (and learned biases), so that it may take part in a sum."""
    text_digest: str = ""
    """sha256 (hex) of the chat template and the tokens of its own; empty = it has none."""
    parts: "tuple[AdapterPart, ...]" = ()
    """Of a weighted sum of adapters, which has a digest of its own and no version number."""

    @property
    def label(self) -> str:
        """What a sentence or a log line calls it."""
        return self.name if self.parts else f"{self.name}@{self.version}"

    @property
    def num_front_tokens(self) -> int:
        """Positions that the adapter puts in front of the prompt."""
        return self.num_virtual_tokens + self.num_prefix_tokens


@dataclass(frozen=True, slots=True)
class AdapterPart:
    """One summand of a weighted sum of low-rank adapters."""

    ref: AdapterRef
    weight: float


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How one choice is generated. Defaults are the neutral value of each field."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0 = all tokens."""
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    """Number of alternatives to report beside the chosen token; None = no logprobs at all."""
    prompt_logprobs: int | None = None
    """The same for the prompt's own tokens (`echo` with `logprobs`)."""
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One sequence to generate. `n` choices are `n` requests that differ in `choice`."""

    request_id: str
    """Unique per sequence (`<http request id>-<choice>`)."""
    prompt_ids: tuple[int, ...]
    params: SamplingParams
    adapter: AdapterRef | None = None
    choice: int = 0
    task_id: int = 0
    """Of a multitask adapter; 0 elsewhere."""
    keep_logits: bool = False
    """Report the logits of every prompt token; for self-tests, with `max_tokens` 0."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Log-probability of one token under the raw (temperature 1, unpenalised) distribution."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    """(token id, logprob) of the most likely alternatives, best first."""


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """What one engine step produced for one sequence."""

    request_id: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None
    """Set once, with the first token, when asked for; the first prompt token has None."""
    finish_reason: FinishReason | None = None
    error: Exception | None = None
    """Set exactly when `finish_reason` is ERROR."""
    num_cached_tokens: int | None = None
    """Prompt tokens that the KV store held already; set once, with the first token."""
    logits: Logits | None = None
    """`[prompt tokens, vocab]` float32, when asked for."""

    @property
    def is_terminal(self) -> bool:
        return self.finish_reason is not None


RowMap = Literal["all", "wanted", "heads"]
"""Which rows of the step a site sees: all of them, or those whose logits are wanted; `heads` is all
of them behind the attention heads, `[B, heads, q, dim]`."""


@dataclass(frozen=True, slots=True)
class TensorLocation:
    """Where a base tensor's bytes lie, so that a child process can map them without torch."""

    file: str
    dtype: str
    """safetensors dtype name: F32, BF16, F16."""
    shape: tuple[int, ...]
    offset: int
    """Absolute byte offset in `file`."""
    num_bytes: int


Quantization = Literal["none", "nf4", "fp4", "int8"]
"""Bits of the base's linear modules, by bitsandbytes' names: 4, 4 and 8."""

SiteKind = Literal["linear", "conv1d", "embedding", "norm"]
"""What a site computes; GPT-2's `Conv1D` is a linear module whose weight is `[in, out]`."""


@dataclass(frozen=True, slots=True)
class SiteDescription:
    """A module of the base that adapters may touch."""

    path: str
    """Dotted module path in the base model, e.g. `model.layers.0.self_attn.q_proj`."""
    kind: SiteKind
    in_features: int
    out_features: int
    rows: RowMap
    weight: TensorLocation | None
    """`[out, in]`; None when the weight's bytes cannot be found in the base's files, and for one
    that is quantised when it is loaded."""
    bias: TensorLocation | None
    has_bias: bool


LaneName = Literal["ragged", "padded", "solo"]
"""How a step becomes calls of the model: `model/lanes`."""


@dataclass(frozen=True, slots=True)
class KVLayer:
    """What an attention layer keeps of every position."""

    layer: int
    num_heads: int
    key_dim: int
    value_dim: int


@dataclass(frozen=True, slots=True)
class BaseDescription:
    """What the control plane and the compiler need to know of the base model."""

    name: str
    """Served model name."""
    folder: str
    """Where config, tokenizer files and weights lie; never shown to a client."""
    fingerprint: str
    """sha256 (hex) over config, tensor headers, samples of every tensor's bytes, the lane and the
    quantisation."""
    architecture: str
    dtype: Literal["float32", "bfloat16", "float16"]
    """Run dtype, which is also the dtype of the adapters' A and B."""
    vocab_size: int
    max_model_len: int
    lane: LaneName
    kv_layers: tuple[KVLayer, ...]
    """Ascending; layers that keep something else of their past are left out."""
    output_module: str | None
    """Path of the output projection (`lm_head`), which peft's `all-linear` leaves out."""
    sites: tuple[SiteDescription, ...]
    modules: tuple[tuple[str, str], ...]
    """(path, class name) of every module of the base: what `target_modules` may match."""
    quantization: Quantization = "none"

    @property
    def is_noisy(self) -> bool:
        """Whether a row's result may visibly depend on its batch: where values are rounded to few
        bits on the way, the last bit of what came before decides which way."""
        return self.dtype != "float32" or self.quantization == "int8"


@dataclass(frozen=True, slots=True)
class LengthClasses:
    """Sequences that a base treats differently from their first position on because of how long
    they will be: their keys and values differ although their tokens are the same."""

    threshold: int | None = None
    """Positions of the longest sequence that is short; None = length makes no difference."""
    are_gradual: bool = False
    """Every further position makes a difference beyond the threshold."""

    def of(self, final_len: int) -> int:
        """`Segment.final_len` → a number that is equal for sequences that are treated alike."""
        if self.threshold is None or final_len <= self.threshold:
            return 0
        return final_len if self.are_gradual else self.threshold + 1


@dataclass(frozen=True, slots=True)
class TierStats:
    """Counters of one cache tier since the start."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    loads: int = 0
    load_seconds: float = 0.0
    num_bytes: int = 0
    budget_bytes: int = 0
    num_adapters: int = 0


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot the metrics endpoint reads; taken without stopping the engine."""

    num_running: int = 0
    num_waiting: int = 0
    num_cold: int = 0
    """Requests outside the batch whose adapter is still being loaded."""
    kv_blocks_used: int = 0
    kv_blocks_total: int = 0
    block_size: int = 0
    num_steps: int = 0
    num_preemptions: int = 0
    num_prefill_chunks: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    prefix_cache_queries: int = 0
    """Positions of started sequences that were looked for in the prefix cache."""
    prefix_cache_hits: int = 0
    """Positions that were found and not computed."""
    tiers: dict[str, TierStats] = field(default_factory=dict)
    """By tier name: `device`, `host`, `disk`."""
    resident: dict[str, str] = field(default_factory=dict)
    """Highest tier in memory (`device` or `host`) of each resident digest."""


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
