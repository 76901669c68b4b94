"""Every error of the client.

ClientError
├── InvalidCall             it cannot be sent: a wrong address, a file that cannot be read
├── Unreachable             no answer: nobody listens, or not in time
├── UnexpectedAnswer        an answer that no server of ours gives, a proxy's page for instance
└── ApiError                the server said no; carries `status`, `code`, `reasons`, …
    ├── BadRequest          400, 413, 415: the call itself is wrong
    ├── Forbidden           401, 403: no key, a wrong one, or one that may not do this
    ├── NotFound            404: it does not exist, or not for this key
    ├── Conflict            409, 412: it does not go with the state that is there
    ├── Refused             422: carries every reason why an upload cannot be served exactly
    ├── Throttled           429: a quota; `retry_after` says for how many seconds
    └── ServerFailed        5xx: overloaded, draining, full, or broken
"""

from collections.abc import Mapping, Sequence
from typing import Any

from service.client.results.base import Reason


class ClientError(Exception):
    """Base of the tree. `str(error)` is a sentence."""


class InvalidCall(ClientError):
    pass


class Unreachable(ClientError):
    pass


class UnexpectedAnswer(ClientError):
    pass


class ApiError(ClientError):
    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        param: str | None = None,
        reasons: Sequence[Reason] = (),
        pointers: Sequence[str] = (),
        retry_after: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        """Machine-readable: `adapter_not_found`, `name_conflict`, …"""
        self.param = param
        """The field of the request that is wrong."""
        self.reasons = tuple(reasons)
        self.pointers = tuple(pointers)
        """What leads to a version that cannot be deleted: `current`, `aliases.stable`, …"""
        self.retry_after = retry_after
        """Seconds after which trying again makes sense."""
        self.request_id = request_id
        """What the server's log calls this call."""


class BadRequest(ApiError):
    pass


class Forbidden(ApiError):
    pass


class NotFound(ApiError):
    pass


class Conflict(ApiError):
    pass


class Refused(ApiError):
    pass


class Throttled(ApiError):
    pass


class ServerFailed(ApiError):
    pass


_CLASSES: Mapping[int, type[ApiError]] = {
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: Conflict,
    422: Refused,
    429: Throttled,
}


def error_of(status: int, body: Any, headers: Mapping[str, str]) -> ClientError:
    """The error that an answer is; a body that is not the server's makes it unexpected."""
    detail = body.get("error") if isinstance(body, dict) else None
    if status < 400 or not isinstance(detail, dict):
        return UnexpectedAnswer(f"The answer with status {status} is not one of a server of ours.")
    kind = _CLASSES.get(status, ServerFailed if status >= 500 else BadRequest)
    return kind(
        str(detail.get("message")),
        status=status,
        code=detail.get("code"),
        param=detail.get("param"),
        reasons=[_reason(one) for one in detail.get("reasons") or ()],
        pointers=[str(one) for one in detail.get("pointers") or ()],
        retry_after=seconds_of(headers.get("retry-after")),
        request_id=headers.get("x-request-id", ""),
    )


def seconds_of(text: str | None) -> float | None:
    """Of `Retry-After`; a date, which only proxies send, says nothing here."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 9:
        return None
    return float(text)


def _reason(sent: Mapping[str, Any]) -> Reason:
    """Of a server that says less, what it says."""
    return Reason(**{name: str(sent.get(name, "")) for name in ("code", "subject", "message")})
