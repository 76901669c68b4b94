"""The nouns every layer shares: frozen, plain, free of torch and of HTTP.

Words are those of the field: a *row* is one token position of the flattened batch, a *slot* is an
integer that addresses one adapter version's terms on the device. The nouns of the base model are in
`service/base.py`, those of one forward pass in `service/step.py`.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

from service.tenancy import DEFAULT_TENANT

Logits = npt.NDArray[np.float32]

NO_SLOT = -1
"""`row_slot` of a row that no adapter touches."""


MemoryTier = Literal["host", "device"]


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
    rank: int = 0
    """Highest of any site; 0 = its kind has none."""
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
    tenant: str = DEFAULT_TENANT
    """Whom it is computed for: shares are fair between tenants, and none finds another's KV."""
    priority: int = 0
    """Lower is earlier, as in vLLM."""
    max_cold_s: float | None = None
    """How long it waits at most for its adapter to be loaded; None = as long as the server lets.

    With a limit, the first event carries no tokens and says that the adapter is in memory.
    """
    keep_logits: bool = False
    """Report the logits of every prompt token; for self-tests, with `max_tokens` 0."""
    load_into: MemoryTier | None = None
    """No prompt, no tokens: the adapter in this tier or a faster one is all that is asked for.

    It ends with `STOP` when that is so.
    """


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Log-probability of one token under the raw (temperature 1, unpenalised) distribution."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    """(token id, logprob) of the most likely alternatives, best first."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the work on a request, in monotonic seconds."""

    name: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Timeline:
    """Where the time of one sequence went: moments in monotonic seconds, None = not reached.

    Between them lie, in this order, load, queue, prefill and decode. Who is evicted from memory
    while it waits loads again, and all until then counts as load.
    """

    arrived: float
    """At the engine."""
    tier: str = ""
    """The slowest one its adapter was found in: `device`, `host` or `disk`; empty for the base."""
    in_memory: float | None = None
    """The adapter is in host memory or on the device; the base always is."""
    admitted: float | None = None
    """To the batch, for the first time."""
    first_token: float | None = None
    last_token: float | None = None
    is_preempted: bool = False
    """It gave its KV blocks back at least once and was computed again."""
    loaded_bytes: int = 0
    """Brought into host memory because of it; others that waited for the same load have none."""

    def phases(self) -> tuple[Phase, ...]:
        """Those that have ended, in the order of time; each begins where the one before ends."""
        names = ("load", "queue", "prefill", "decode")
        moments = (self.in_memory, self.admitted, self.first_token, self.last_token)
        phases: list[Phase] = []
        start = self.arrived
        for name, end in zip(names, moments, strict=True):
            if end is None:
                break
            phases.append(Phase(name, start, end))
            start = end
        return tuple(phases)

    @property
    def seconds(self) -> float:
        """From its arrival to its latest token; 0 before the first."""
        return 0.0 if self.last_token is None else self.last_token - self.arrived


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
    timeline: Timeline | None = None
    """Set with the first token and with the end."""

    @property
    def is_terminal(self) -> bool:
        return self.finish_reason is not None


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
    num_loading: int = 0
    """Adapters on their way into host memory, whose room there is taken already."""
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
    """By tier name: `device`, `host`, `disk`, and `store` where replicas share forms."""
    resident: dict[str, str] = field(default_factory=dict)
    """Highest tier in memory (`device` or `host`) of each resident digest; last is what came to
    its tier last."""
    resident_revision: int = 0
    """Grows with every change of `resident`."""
