"""Response headers that say where the time of an answer went."""

from service.core import Timeline

_WHOLE = ("queue", "load", "prefill", "decode")
_STREAMED = ("queue", "load", "prefill")
"""A stream's headers leave with its first token."""


def timing_headers(timeline: Timeline | None, is_whole: bool) -> dict[str, str]:
    """Nothing when there is no token yet, as in a stream that was opened without waiting more.

    `Server-Timing` is a standard that browsers and clients show; milliseconds.
    """
    if timeline is None or timeline.first_token is None:
        return {}
    phases = {one.name: one.seconds for one in timeline.phases()}
    names = _WHOLE if is_whole else _STREAMED
    headers = {
        "server-timing": ", ".join(f"{name};dur={phases[name] * 1000:.1f}" for name in names)
    }
    return headers | ({"x-adapter-tier": timeline.tier} if timeline.tier else {})
