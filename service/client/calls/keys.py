"""The calls of `/v1/keys`."""

from service.client.call import Call, Listing, segment
from service.client.results.access import DeletedKey, KeyInfo, NewKey
from service.client.results.base import Page

_ROOT = "/v1/keys"


def create(
    role: str,
    *,
    tenant: str | None = None,
    label: str = "",
    expires_in_s: int | None = None,
    min_priority: int | None = None,
) -> Call[NewKey]:
    """A key for the caller's own tenant or another; its secret is told this once."""
    body = {
        "role": role,
        "tenant": tenant,
        "label": label,
        "expires_in_s": expires_in_s,
        "min_priority": min_priority,
    }
    return Call("POST", _ROOT, NewKey, body=body, is_repeatable=False)


def list_all(*, tenant: str | None = None) -> Listing[KeyInfo]:
    """Keys that are not revoked, of the caller's own tenant or another, oldest first."""
    first = Call("GET", _ROOT, Page[KeyInfo], query={"tenant": tenant})
    return Listing(first, lambda key: key.id)


def revoke(key_id: str) -> Call[DeletedKey]:
    """From now on the key opens nothing."""
    return Call("DELETE", f"{_ROOT}/{segment(key_id)}", DeletedKey)
