"""The calls of `/v1/tenants`, for operators."""

from service.client.call import Call, Listing, segment
from service.client.results.access import DeletedTenant, Limits, TenantInfo
from service.client.results.base import Page

_ROOT = "/v1/tenants"


def create(name: str, *, limits: Limits | None = None) -> Call[TenantInfo]:
    """Without limits those of the server's settings hold."""
    body = {"name": name, "limits": _sent(limits)}
    return Call("POST", _ROOT, TenantInfo, body=body, is_repeatable=False)


def list_all(*, page_size: int = 100) -> Listing[TenantInfo]:
    first = Call("GET", _ROOT, Page[TenantInfo], query={"limit": page_size})
    return Listing(first, lambda tenant: tenant.name)


def get(name: str) -> Call[TenantInfo]:
    return Call("GET", _path(name), TenantInfo)


def set_limits(name: str, limits: Limits | None) -> Call[TenantInfo]:
    """In place of all that were; None = those of the server's settings."""
    return Call("PATCH", _path(name), TenantInfo, body={"limits": _sent(limits)})


def delete(name: str) -> Call[DeletedTenant]:
    """With its keys; it must own no adapters."""
    return Call("DELETE", _path(name), DeletedTenant)


def _path(name: str) -> str:
    return f"{_ROOT}/{segment(name)}"


def _sent(limits: Limits | None) -> dict[str, object] | None:
    return None if limits is None else limits.model_dump()
