"""How large files are and which was used last. The sum is asked for on every step of the engine, so
it is kept, not formed."""

from collections import OrderedDict


class FileSizes:
    """Not thread-safe."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self.num_bytes = 0
        """Of all together."""
        self.revision = 0
        """Grows when a file comes or goes."""

    def __contains__(self, name: str) -> bool:
        return name in self._sizes

    def __len__(self) -> int:
        return len(self._sizes)

    def use(self, name: str, num_bytes: int) -> None:
        """It is the one that was used last, and so large from now on."""
        self.revision += name not in self._sizes
        self.num_bytes += num_bytes - self._sizes.get(name, 0)
        self._sizes[name] = num_bytes
        self._sizes.move_to_end(name)

    def drop(self, name: str) -> None:
        self.revision += name in self._sizes
        self.num_bytes -= self._sizes.pop(name, 0)

    def least_recent_first(self) -> list[str]:
        return list(self._sizes)
