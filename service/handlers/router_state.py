"""What the metrics of routers show: names as `model` says them, as many as an operator allows."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal

from service.core import AdapterRef, EngineStats
from service.engine.activity import Use
from service.handlers.replica import Replica, max_on_device
from service.router_metrics import LoadedAdapter, RouterState

_LEVELS: tuple[tuple[str, Literal["gpu", "cpu"]], ...] = (("device", "gpu"), ("host", "cpu"))


class RouterStateReader:
    def __init__(self, model: str, replica: Replica, max_names: int) -> None:
        """`model` is the base's served name; no list is longer than `max_names`."""
        self._model = model
        self._replica = replica
        self._max_names = max_names

    def read(self) -> RouterState:
        stats, activity = self._replica.engine.stats(), self._replica.engine.activity()
        running = _versions(activity.running)
        waiting = _versions([*activity.waiting, *activity.cold]) - running
        device, host = stats.tiers["device"], stats.tiers["host"]
        return RouterState(
            model=self._model,
            num_running=stats.num_running,
            num_waiting=stats.num_waiting + stats.num_cold,
            kv_usage=stats.kv_blocks_used / max(1, stats.kv_blocks_total),
            block_size=stats.block_size,
            num_blocks=stats.kv_blocks_total,
            max_on_device=max_on_device(device, self._replica.registry.mean_bytes),
            num_on_device=device.num_adapters,
            num_in_host=host.num_adapters - stats.num_loading,
            running=self._names(running),
            waiting=self._names(waiting),
            loaded=self._loaded(stats),
        )

    def _names(self, versions: Iterable[tuple[str, int]]) -> list[str]:
        names = sorted(name for version in versions for name in self._labels(*version))
        return names[: self._max_names]

    def _labels(self, name: str, version: int) -> Sequence[str]:
        """A version goes by the pointers that lead to it; by its number where none does."""
        written = self._replica.registry.written(name, version)
        return written[:-1] or written

    def _loaded(self, stats: EngineStats) -> list[LoadedAdapter]:
        """The device's first, and what came last: whoever is beyond the limit went unused longer.

        Each name once, though names may move while this looks.
        """
        shown = islice(self._all_loaded(stats), self._max_names)
        return list({one.name: one for one in shown}.values())

    def _all_loaded(self, stats: EngineStats) -> Iterator[LoadedAdapter]:
        newest = list(reversed(stats.resident.items()))
        for wanted, level in _LEVELS:
            for ref in self._refs(digest for digest, tier in newest if tier == wanted):
                # Pins hold host memory; on the device what is pinned makes room like any other.
                is_pinned = level == "cpu" and self._replica.pins.holds(ref.name, ref.digest)
                for name in self._labels(ref.name, ref.version):
                    yield LoadedAdapter(name, level, is_pinned, ref.rank)

    def _refs(self, digests: Iterable[str]) -> Iterator[AdapterRef]:
        return (ref for digest in digests for ref in self._replica.registry.named(digest))


def _versions(uses: Iterable[Use]) -> set[tuple[str, int]]:
    """Without the base and weighted sums, which no adapter's name asks for."""
    return {(use.name, use.version) for use in uses if use.name}
