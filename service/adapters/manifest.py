"""What the control plane remembers of one version's content: the summary stored beside it."""

from dataclasses import asdict, dataclass
from typing import Any

from service.adapters.compiled import align

_ITEM_SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}


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
    """(elements, how often) of the A and B tensors, which take the run dtype."""
    vector_sizes: tuple[tuple[int, int], ...]
    """(elements, how often) of the c and d tensors, which are float32."""

    def payload_bytes(self, dtype: str) -> int:
        """Size of the compiled payload in run dtype `dtype`, without compiling."""
        low_rank = sum(
            count * align(size * _ITEM_SIZES[dtype]) for size, count in self.low_rank_sizes
        )
        return low_rank + sum(count * align(size * 4) for size, count in self.vector_sizes)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Manifest":
        return cls(
            digest=raw["digest"],
            kind=raw["kind"],
            rank=raw["rank"],
            targets=tuple(raw["targets"]),
            num_bytes=raw["num_bytes"],
            low_rank_sizes=tuple((size, count) for size, count in raw["low_rank_sizes"]),
            vector_sizes=tuple((size, count) for size, count in raw["vector_sizes"]),
        )
