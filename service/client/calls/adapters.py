"""The calls of `/v1/adapters`.

A name is one of the caller's own adapters or of the operator's; `tenant/name` is another tenant's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from service.client.call import LONG_S, Call, Listing, segment
from service.client.results.adapters import (
    Adapter,
    Collected,
    DeletedAdapter,
    PublishedAdapter,
    VerifiedAdapter,
    WarmedAdapter,
)
from service.client.results.base import Page, Result
from service.client.upload import Progress, Upload

Target = int | Mapping[int, int]
"""A version, or weights by version."""

_ROOT = "/v1/adapters"

R = TypeVar("R", bound=Result)


def push(
    name: str,
    source: Path | str,
    *,
    convert: str | None = None,
    rank: int | None = None,
    ttl_s: int | None = None,
    visibility: str | None = None,
    on_progress: Progress | None = None,
) -> Call[PublishedAdapter]:
    """Publish a PEFT folder or an archive of one.

    `convert="lora"` with a `rank` approximates another kind; `ttl_s` is after how many seconds the
    name is deleted; `visibility` is `private` or `public` from the first moment. Content that is
    there already makes no second version, so an upload that was turned away is simply sent again.
    """
    tenant, own = split(name)
    return Call(
        "POST",
        _ROOT,
        PublishedAdapter,
        query={
            "convert": convert,
            "rank": rank,
            "ttl_s": ttl_s,
            "visibility": visibility,
            "tenant": tenant,
        },
        upload=Upload(Path(source), {"name": own}, on_progress),
        timeout_s=LONG_S,
    )


def list_all(
    *, tenant: str | None = None, deleted: bool = False, page_size: int = 100
) -> Listing[Adapter]:
    """Every adapter of a tenant, or every one that is deleted and can be restored, by name.

    Pages are fetched as they are needed.
    """
    query = {"limit": page_size, "deleted": "true" if deleted else None, "tenant": tenant}
    first = Call("GET", _ROOT, Page[Adapter], query=query)
    return Listing(first, lambda adapter: adapter.name)


def get(name: str) -> Call[Adapter]:
    """One adapter with its versions; its `etag` goes into `if_match` of a change."""
    return _call("GET", name, "", Adapter)


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
    return _call("PATCH", name, "", Adapter, body, if_match=if_match)


def share(
    name: str, visibility: str | Sequence[str], *, if_match: str | None = None
) -> Call[Adapter]:
    """Who may use it beside its owner: `private`, `public`, or a list of tenants."""
    wanted = visibility if isinstance(visibility, str) else {"tenants": list(visibility)}
    return _call("PATCH", name, "", Adapter, {"visibility": wanted}, if_match=if_match)


def pin(name: str, pinned: bool = True, *, if_match: str | None = None) -> Call[Adapter]:
    """Whether what the name and its aliases lead to stays in host memory, used or not."""
    return _call("PATCH", name, "", Adapter, {"pinned": pinned}, if_match=if_match)


def expire(name: str, ttl_s: int | None, *, if_match: str | None = None) -> Call[Adapter]:
    """After how many seconds from now the name is deleted; None = never."""
    return _call("PATCH", name, "", Adapter, {"ttl_s": ttl_s}, if_match=if_match)


def rollback(name: str, *, if_match: str | None = None) -> Call[Adapter]:
    """Back to the version that was current before; called again, it goes back further."""
    call = _call("POST", name, "/rollback", Adapter, if_match=if_match)
    return replace(call, is_repeatable=False)


def delete(name: str, *, if_match: str | None = None) -> Call[DeletedAdapter]:
    """An adapter with all its versions, or `name@3` alone; for a while it can be restored."""
    return _call("DELETE", name, "", DeletedAdapter, if_match=if_match)


def restore(name: str, version: int | None = None, *, if_match: str | None = None) -> Call[Adapter]:
    """Bring back a deleted version, or the whole name as it was when it was deleted."""
    return _call("POST", name, "/restore", Adapter, {"version": version}, if_match=if_match)


def gc(*, dry_run: bool = False) -> Call[Collected]:
    """Free what is deleted and can no longer be restored."""
    query = {"dry_run": "true" if dry_run else None}
    return Call("POST", f"{_ROOT}:gc", Collected, query=query, timeout_s=LONG_S)


def verify(name: str) -> Call[VerifiedAdapter]:
    """Compare a version, as it is served now, with peft."""
    return replace(_call("POST", name, "/verify", VerifiedAdapter), timeout_s=LONG_S)


def warm(name: str, *, tier: str = "host", timeout_ms: int | None = None) -> Call[WarmedAdapter]:
    """Bring a version into host memory or, with `tier="device"`, onto the device.

    Answers when it is there, or fails after `timeout_ms` while the load goes on.
    """
    body = {"tier": tier, "timeout_ms": timeout_ms}
    return replace(_call("POST", name, "/warm", WarmedAdapter, body), timeout_s=LONG_S)


def split(name: str) -> tuple[str | None, str]:
    """The tenant, if it is said, and the name within it."""
    tenant, slash, own = name.rpartition("/")
    return (tenant if slash else None), own


def _call(
    method: str,
    name: str,
    action: str,
    result: type[R],
    body: Mapping[str, Any] | None = None,
    *,
    if_match: str | None = None,
) -> Call[R]:
    tenant, own = split(name)
    return Call(
        method,
        f"{_ROOT}/{segment(own)}{action}",
        result,
        query={"tenant": tenant},
        body=body,
        headers={} if if_match is None else {"If-Match": if_match},
    )


def _wanted(item: tuple[str, Target | None]) -> tuple[str, Any]:
    alias, target = item
    if isinstance(target, Mapping):
        return alias, {str(number): weight for number, weight in target.items()}
    return alias, target
