"""OpenAI's headers that tell a client what is left of its limits per minute."""

from service.tenancy import RateState, WindowState


def rate_headers(rates: RateState) -> dict[str, str]:
    """Nothing for a limit that there is not."""
    return _of("requests", rates.requests) | _of("tokens", rates.tokens)


def _of(kind: str, window: WindowState | None) -> dict[str, str]:
    if window is None:
        return {}
    return {
        f"x-ratelimit-limit-{kind}": str(window.limit),
        f"x-ratelimit-remaining-{kind}": str(window.remaining),
        f"x-ratelimit-reset-{kind}": _duration(window.reset_ms),
    }


def _duration(milliseconds: int) -> str:
    """`0s`, `120ms`, `59.5s`, `1m0s`, as OpenAI writes them."""
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{minutes}m{seconds}" if minutes else seconds
