"""Collects every reason against an upload, so that its owner learns them all at once."""

from service.errors import AdapterRefused, Refusal


class Refusals:
    """Bounded: the reasons beyond `limit` are only counted."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._reasons: list[Refusal] = []
        self._num_dropped = 0

    def __bool__(self) -> bool:
        return bool(self._reasons)

    def add(self, code: str, subject: str, message: str) -> None:
        if len(self._reasons) < self._limit:
            self._reasons.append(Refusal(code, subject[:500], message[:1000]))
        else:
            self._num_dropped += 1

    def raise_if_any(self) -> None:
        if self._reasons:
            raise AdapterRefused(self._all())

    def _all(self) -> tuple[Refusal, ...]:
        if not self._num_dropped:
            return tuple(self._reasons)
        more = Refusal("more", "", f"{self._num_dropped} further reasons are not shown.")
        return (*self._reasons, more)
