"""How long a name lives."""

from dataclasses import dataclass

from service.errors import InvalidRequest

FOR_EVER = 0
"""As the end of a name in its journal."""
MAX_TTL_S = 10 * 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Until a moment, for a while from now, or, with neither, for ever."""

    expires_at: int | None = None
    """Unix seconds."""
    ttl_s: int | None = None

    def end(self, now: int) -> int:
        """Unix seconds from which the name is gone, or `FOR_EVER`."""
        if self.ttl_s is not None:
            return now + self.ttl_s
        if self.expires_at is None:
            return FOR_EVER
        if not now < self.expires_at <= now + MAX_TTL_S:
            message = f"expires_at must lie within the next {MAX_TTL_S} seconds."
            raise InvalidRequest(message, "expires_at")
        return self.expires_at
