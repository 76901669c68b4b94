"""What the control plane remembers of one version's content: the summary stored beside it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from service.adapters.compiled import align

_ITEM_SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}

Form = Literal["terms", "module"]
"""How a version is served: as terms of the operator, or (at some site) through peft's own layer."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """The upload was of another kind and was approximated by a LoRA, because its owner asked."""

    kind: str
    """Of the upload."""
    rank: int
    module_errors: tuple[tuple[str, float], ...]
    """(module path, `||dW - B A|| / ||dW||` in the Frobenius norm)"""
    mean_kl: float
    """Mean Kullback-Leibler divergence of the next token, original to converted, in nats, over the
    positions of the probe prompts."""

    @property
    def max_error(self) -> float:
        return max(error for _, error in self.module_errors)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Conversion":
        errors = tuple((path, error) for path, error in raw["module_errors"])
        return cls(**{**raw, "module_errors": errors})


@dataclass(frozen=True, slots=True)
class Manifest:
    digest: str
    kind: str
    rank: int
    """Highest rank of any site."""
    targets: tuple[str, ...]
    """Last path parts of the touched modules, sorted."""
    num_bytes: int
    """Of the original files that are used."""
    low_rank_sizes: tuple[tuple[int, int], ...]
    """(elements, how often) of the tensors that take the run dtype: A and B above all."""
    vector_sizes: tuple[tuple[int, int], ...]
    """(elements, how often) of the tensors that are float32 whatever the run dtype."""
    byte_sizes: tuple[tuple[int, int], ...] = ()
    """(bytes, how often) of every other tensor."""
    form: Form = "terms"
    num_virtual_tokens: int = 0
    num_prefix_tokens: int = 0
    invocation_tokens: tuple[int, ...] = ()
    num_tasks: int = 0
    is_summable: bool = False
    """Nothing but A and B (and `d` of a learned bias), so that it may take part in a sum."""
    conversion: Conversion | None = None
    text_digest: str = ""
    """sha256 (hex) over the version's `TEXT_FILES`; empty = its text is the base's."""
    has_chat_template: bool = False
    """Whether one of its own is among them."""
    num_added_tokens: int = 0

    def payload_bytes(self, dtype: str) -> int:
        """Size of the compiled payload in run dtype `dtype`, without compiling."""
        groups = (
            (self.low_rank_sizes, _ITEM_SIZES[dtype]),
            (self.vector_sizes, 4),
            (self.byte_sizes, 1),
        )
        return sum(
            count * align(size * item_size) for sizes, item_size in groups for size, count in sizes
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Manifest":
        fields = dict(raw)
        for name in ("low_rank_sizes", "vector_sizes", "byte_sizes"):
            fields[name] = tuple((size, count) for size, count in raw.get(name, ()))
        for name in ("targets", "invocation_tokens"):
            fields[name] = tuple(raw.get(name, ()))
        if fields.get("conversion") is not None:
            fields["conversion"] = Conversion.from_json(fields["conversion"])
        return cls(**fields)
