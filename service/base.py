"""The nouns of the base model: what the rest of the service knows of it, without torch."""

from dataclasses import dataclass
from typing import Literal

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
