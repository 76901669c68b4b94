"""How many prompt rows a step takes beside running answers. Pure: others measure the time."""

from dataclasses import dataclass

_ADDED = 2.25
"""Times the shortest step without prompt rows: how much longer they may make it."""
_START = 64
"""Rows, before anything has been measured."""
_LEAST = 16
"""Rows: a prompt goes on whatever it costs."""
_WEIGHT = 0.1
_MOST_CHANGE = 0.05
"""Of an estimate by one step, so that one that was held up says little."""


@dataclass(slots=True)
class _Seconds:
    """Follows what is seen."""

    value: float
    least: float

    def follow(self, seen: float) -> None:
        most = _MOST_CHANGE * self.value
        self.value += min(max(_WEIGHT * (seen - self.value), -most), most)
        self.least = min(self.least, self.value)


class PrefillPace:
    """The more rows, the sooner a prompt is through and the longer all answers wait for a token.

    What a row costs beside what a step costs anyway differs tenfold between processors, and with
    the base, so it is measured while both kinds of steps run. Rows are priced as `PrefillRows`
    does. Steps grow with the answers that they go on with; what rows may add does not.
    """

    def __init__(self, fixed: int | None = None) -> None:
        """`fixed`: so many rows, whatever is measured."""
        self._fixed = fixed
        self._alone: dict[int, _Seconds] = {}
        """Of a step without prompt rows, by the bits of its number of rows."""
        self._row: _Seconds | None = None
        """That a prompt row adds."""

    def rows_beside(self, num_decode: int) -> int:
        if self._fixed is not None:
            return self._fixed
        alone = self._alone.get(num_decode.bit_length())
        if alone is None or self._row is None:
            return _START
        return max(_LEAST, int(_ADDED * alone.least / self._row.value))

    def note(self, num_decode: int, num_prefill: int, seconds: float) -> None:
        """What a step took; one without decoding rows says nothing."""
        size = num_decode.bit_length()
        alone = self._alone.get(size)
        if num_decode and not num_prefill:
            self._alone[size] = alone = alone or _Seconds(seconds, seconds)
            alone.follow(seconds)
        elif alone is not None and num_prefill >= _LEAST and seconds > alone.value:
            added = (seconds - alone.value) / num_prefill
            self._row = self._row or _Seconds(added, added)
            self._row.follow(added)
