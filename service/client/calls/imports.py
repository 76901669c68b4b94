"""The calls of `/v1/imports`, and the one that begins an import."""

from collections.abc import Callable

from service.client.call import Call, Listing, Watch, segment
from service.client.calls.adapters import split
from service.client.results.base import Page
from service.client.results.imports import Import

_ROOT = "/v1/imports"


def begin(
    name: str,
    source: str,
    *,
    convert: str | None = None,
    rank: int | None = None,
    ttl_s: int | None = None,
    visibility: str | None = None,
) -> Call[Import]:
    """Let the server fetch an adapter itself and publish it; answers at once.

    `source` is `hf://org/repo@revision`, `s3://bucket/prefix`, `https://host/archive`, or a path of
    the server, as far as its operator allows it. The rest is as in `adapters.push`.
    """
    tenant, own = split(name)
    query = {
        "convert": convert,
        "rank": rank,
        "ttl_s": ttl_s,
        "visibility": visibility,
        "tenant": tenant,
    }
    body = {"name": own, "source": source}
    return Call("POST", "/v1/adapters", Import, query=query, body=body)


def get(import_id: str) -> Call[Import]:
    return Call("GET", f"{_ROOT}/{segment(import_id)}", Import)


def list_all(*, tenant: str | None = None) -> Listing[Import]:
    """Those of the caller's own tenant or another that run or have lately ended, latest first."""
    first = Call("GET", _ROOT, Page[Import], query={"tenant": tenant})
    return Listing(first, lambda one: one.id)


def stop(import_id: str) -> Call[Import]:
    """While it is fetched; one that is over stays as it is."""
    return Call("DELETE", f"{_ROOT}/{segment(import_id)}", Import)


def wait(
    import_id: str, *, on_progress: Callable[[Import], object] | None = None, every_s: float = 0.5
) -> Watch[Import]:
    """Until it is over, however it ends; `on_progress` is told how it goes meanwhile."""
    return Watch(get(import_id), lambda one: one.is_over, on_progress, every_s)
