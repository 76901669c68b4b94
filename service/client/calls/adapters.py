"""The calls of `/v1/adapters`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.client.call import LONG_S, Call, Listing, segment
from service.client.results import (
    Adapter,
    DeletedAdapter,
    Page,
    PublishedAdapter,
    VerifiedAdapter,
)
from service.client.upload import Progress, Upload

Target = int | Mapping[int, int]
"""A version, or weights by version."""

_ROOT = "/v1/adapters"


def push(
    name: str,
    source: Path | str,
    *,
    convert: str | None = None,
    rank: int | None = None,
    on_progress: Progress | None = None,
) -> Call[PublishedAdapter]:
    """Publish a PEFT folder or an archive of one.

    `convert="lora"` with a `rank` approximates another kind. Content that is there already makes
    no second version, so an upload that was turned away is simply sent again.
    """
    return Call(
        "POST",
        _ROOT,
        PublishedAdapter,
        query={"convert": convert, "rank": rank},
        upload=Upload(Path(source), {"name": name}, on_progress),
        timeout_s=LONG_S,
    )


def list_all(*, page_size: int = 100) -> Listing[Adapter]:
    """Every adapter, by name; pages are fetched as they are needed."""
    first = Call("GET", _ROOT, Page[Adapter], query={"limit": page_size})
    return Listing(first, lambda adapter: adapter.name)


def get(name: str) -> Call[Adapter]:
    """One adapter with its versions; its `etag` goes into `if_match` of a change."""
    return Call("GET", _path(name), Adapter)


def move(
    name: str,
    aliases: Mapping[str, Target | None] | None = None,
    *,
    current: int | None = None,
    if_match: str | None = None,
) -> Call[Adapter]:
    """Move the current version and aliases, all of it or nothing; None removes an alias."""
    body: dict[str, Any] = {"aliases": dict(map(_wanted, (aliases or {}).items()))}
    if current is not None:
        body["current"] = current
    return Call("PATCH", _path(name), Adapter, body=body, headers=_condition(if_match))


def rollback(name: str, *, if_match: str | None = None) -> Call[Adapter]:
    """Back to the version that was current before; called again, it goes back further."""
    return Call(
        "POST",
        _path(name, "/rollback"),
        Adapter,
        headers=_condition(if_match),
        is_repeatable=False,
    )


def delete(name: str) -> Call[DeletedAdapter]:
    """An adapter with all its versions."""
    return Call("DELETE", _path(name), DeletedAdapter)


def verify(name: str) -> Call[VerifiedAdapter]:
    """Compare a version, as it is served now, with peft."""
    return Call("POST", _path(name, "/verify"), VerifiedAdapter, timeout_s=LONG_S)


def _path(name: str, action: str = "") -> str:
    return f"{_ROOT}/{segment(name)}{action}"


def _condition(if_match: str | None) -> dict[str, str]:
    return {} if if_match is None else {"If-Match": if_match}


def _wanted(item: tuple[str, Target | None]) -> tuple[str, Any]:
    alias, target = item
    if isinstance(target, Mapping):
        return alias, {str(number): weight for number, weight in target.items()}
    return alias, target
