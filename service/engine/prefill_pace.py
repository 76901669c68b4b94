"""How many prompt rows a step takes beside running answers. Pure: others measure the time."""

from dataclasses import dataclass, field

_ADDED = 2.0
"""Times the shortest step without prompt rows: how much longer they may make it."""
_START = 64
"""Rows, before anything has been measured."""
_LEAST = 16
"""Rows: a prompt goes on whatever it costs."""
_WEIGHT = 0.1
_NEAR = 0.2
"""Of an estimate: what is further from it counts as if it were so far, since a step may have been
held up by anything."""


@dataclass(slots=True)
class _Seconds:
    """The mean of what was seen first, then what follows it."""

    value: float = 0.0
    least: float = float("inf")
    num_seen: int = 0

    def follow(self, seen: float) -> None:
        self.num_seen += 1
        weight = 1 / self.num_seen
        if weight < _WEIGHT:
            weight, near = _WEIGHT, _NEAR * self.value
            seen = min(max(seen, self.value - near), self.value + near)
        self.value += weight * (seen - self.value)
        self.least = min(self.least, self.value)


@dataclass(slots=True)
class _Costs:
    alone: _Seconds = field(default_factory=_Seconds)
    """Of a step without prompt rows."""
    row: _Seconds = field(default_factory=_Seconds)
    """That a prompt row adds."""


class PrefillPace:
    """The more rows, the sooner a prompt is through and the longer all answers wait for a token.

    What a row costs beside what a step costs anyway differs tenfold between processors, and with
    the base, so it is measured while both kinds of steps run. Rows are priced as `PrefillRows`
    does. Steps grow with the answers that they go on with; what rows may add does not.
    """

    def __init__(self, fixed: int | None = None) -> None:
        """`fixed`: so many rows, whatever is measured."""
        self._fixed = fixed
        self._costs: dict[int, _Costs] = {}
        """By the bits of the number of rows that decode."""

    def rows_beside(self, num_decode: int) -> int:
        if self._fixed is not None:
            return self._fixed
        costs = self._costs.get(num_decode.bit_length())
        if costs is None or not costs.row.num_seen:
            return _START
        return max(_LEAST, int(_ADDED * costs.alone.least / costs.row.value))

    def note(self, num_decode: int, num_prefill: int, seconds: float) -> None:
        """What a step took; one without decoding rows says nothing."""
        if not num_decode:
            return
        costs = self._costs.setdefault(num_decode.bit_length(), _Costs())
        if not num_prefill:
            costs.alone.follow(seconds)
        elif costs.alone.num_seen and num_prefill >= _LEAST and seconds > costs.alone.value:
            costs.row.follow((seconds - costs.alone.value) / num_prefill)
