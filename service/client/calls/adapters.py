"""The calls of `/v1/adapters`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.client.call import LONG_S, Call, Listing, segment
from service.client.results.adapters import (
    Adapter,
    Collected,
    DeletedAdapter,
    PublishedAdapter,
    VerifiedAdapter,
    WarmedAdapter,
)
from service.client.results.base import Page
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


def list_all(*, deleted: bool = False, page_size: int = 100) -> Listing[Adapter]:
    """Every adapter, or every one that is deleted and can be restored, by name.

    Pages are fetched as they are needed.
    """
    query = {"limit": page_size, "deleted": "true" if deleted else None}
    first = Call("GET", _ROOT, Page[Adapter], query=query)
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


def delete(name: str, *, if_match: str | None = None) -> Call[DeletedAdapter]:
    """An adapter with all its versions, or `name@3` alone; for a while it can be restored."""
    return Call("DELETE", _path(name), DeletedAdapter, headers=_condition(if_match))


def restore(name: str, version: int | None = None, *, if_match: str | None = None) -> Call[Adapter]:
    """Bring back a deleted version, or the whole name as it was when it was deleted."""
    body = {} if version is None else {"version": version}
    headers = _condition(if_match)
    return Call("POST", _path(name, "/restore"), Adapter, body=body, headers=headers)


def gc(*, dry_run: bool = False) -> Call[Collected]:
    """Free what is deleted and can no longer be restored."""
    query = {"dry_run": "true" if dry_run else None}
    return Call("POST", f"{_ROOT}:gc", Collected, query=query, timeout_s=LONG_S)


def verify(name: str) -> Call[VerifiedAdapter]:
    """Compare a version, as it is served now, with peft."""
    return Call("POST", _path(name, "/verify"), VerifiedAdapter, timeout_s=LONG_S)


def warm(name: str, *, tier: str = "host", timeout_ms: int | None = None) -> Call[WarmedAdapter]:
    """Bring a version into host memory or, with `tier="device"`, onto the device.

    Answers when it is there, or fails after `timeout_ms` while the load goes on.
    """
    body = {"tier": tier, "timeout_ms": timeout_ms}
    return Call("POST", _path(name, "/warm"), WarmedAdapter, body=body, timeout_s=LONG_S)


def _path(name: str, action: str = "") -> str:
    return f"{_ROOT}/{segment(name)}{action}"


def _condition(if_match: str | None) -> dict[str, str]:
    return {} if if_match is None else {"If-Match": if_match}


def _wanted(item: tuple[str, Target | None]) -> tuple[str, Any]:
    alias, target = item
    if isinstance(target, Mapping):
        return alias, {str(number): weight for number, weight in target.items()}
    return alias, target
