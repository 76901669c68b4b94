"""The one table from errors to HTTP, and the one shape of every error body."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from service import errors
from service.api.rates import rate_headers


@dataclass(frozen=True, slots=True)
class Shape:
    status: int
    type: str
    code: str | None
    headers: Mapping[str, str] = field(default_factory=dict)


SHAPES: dict[type[Exception], Shape] = {
    errors.InvalidRequest: Shape(400, "invalid_request_error", None),
    errors.PromptTooLong: Shape(400, "invalid_request_error", "context_length_exceeded"),
    errors.Unauthorized: Shape(
        401, "authentication_error", "invalid_api_key", {"WWW-Authenticate": "Bearer"}
    ),
    errors.PermissionDenied: Shape(403, "permission_error", "permission_denied"),
    errors.NeverWithinLimit: Shape(400, "invalid_request_error", "never_within_limit"),
    # No client tries a 403 again of its own accord.
    errors.QuotaExceeded: Shape(403, "invalid_request_error", "quota_exceeded"),
    errors.ModelNotFound: Shape(404, "invalid_request_error", "model_not_found"),
    errors.AdapterNotFound: Shape(404, "invalid_request_error", "adapter_not_found"),
    errors.KeyNotFound: Shape(404, "invalid_request_error", "key_not_found"),
    errors.TenantNotFound: Shape(404, "invalid_request_error", "tenant_not_found"),
    errors.ImportNotFound: Shape(404, "invalid_request_error", "import_not_found"),
    errors.SourceRefused: Shape(403, "permission_error", "source_refused"),
    # These end an import; no request is answered with them.
    errors.ImportInterrupted: Shape(503, "server_error", "import_interrupted"),
    errors.SourceFailed: Shape(502, "server_error", "source_failed"),
    errors.SourceNotFound: Shape(502, "server_error", "source_not_found"),
    errors.SourceDenied: Shape(502, "server_error", "source_denied"),
    errors.SourceTimeout: Shape(502, "server_error", "source_timeout"),
    errors.ImportNotStoppable: Shape(
        409, "invalid_request_error", "import_not_stoppable", {"x-should-retry": "false"}
    ),
    # The official clients retry every 409 unless they are told not to.
    errors.NameConflict: Shape(
        409, "invalid_request_error", "name_conflict", {"x-should-retry": "false"}
    ),
    errors.VersionInUse: Shape(
        409, "invalid_request_error", "version_in_use", {"x-should-retry": "false"}
    ),
    errors.RequestTooSlow: Shape(408, "invalid_request_error", "request_timeout"),
    errors.PinLimitExceeded: Shape(
        409, "invalid_request_error", "pin_limit", {"x-should-retry": "false"}
    ),
    errors.PreconditionFailed: Shape(412, "invalid_request_error", "precondition_failed"),
    errors.UploadTooLarge: Shape(413, "invalid_request_error", "too_large"),
    errors.UrlTooLong: Shape(414, "invalid_request_error", "url_too_long"),
    errors.UnsupportedUpload: Shape(415, "invalid_request_error", "unsupported_upload"),
    errors.AdapterRefused: Shape(422, "invalid_request_error", "adapter_refused"),
    errors.UnknownTarget: Shape(422, "invalid_request_error", "unknown_target"),
    errors.RateLimited: Shape(429, "rate_limit_error", "rate_limit_exceeded"),
    errors.TooManyUploads: Shape(429, "rate_limit_error", "too_many_uploads"),
    errors.HeadersTooLarge: Shape(431, "invalid_request_error", "headers_too_large"),
    errors.AdapterLoadFailed: Shape(500, "server_error", "adapter_load_failed"),
    errors.EngineFailed: Shape(500, "server_error", "engine_failed"),
    errors.Overloaded: Shape(503, "server_error", "overloaded"),
    errors.Draining: Shape(503, "server_error", "draining"),
    errors.StoreUnavailable: Shape(503, "server_error", "store_unavailable"),
    errors.ColdLoadTimeout: Shape(504, "server_error", "cold_load_timeout"),
    errors.StoreFull: Shape(507, "server_error", "store_full", {"x-should-retry": "false"}),
}
UNEXPECTED = Shape(500, "server_error", "internal_error")

_FIELD = re.compile(r"[a-z_][a-z0-9_]*")
_MAX_SHOWN = 64
"""Unknown fields that are named, and characters of each."""
_TYPE_NAMES = {"str", "int", "float", "bool", "list", "tuple", "dict"}


def shape_of(error: Exception) -> Shape:
    """The entry of the nearest class; an error that is not in the table is our own fault."""
    return next((SHAPES[one] for one in type(error).__mro__ if one in SHAPES), UNEXPECTED)


def code_named(kind: str) -> str:
    """Of an error of which only the name of its class is left."""
    code = next((SHAPES[one].code for one in SHAPES if one.__name__ == kind), UNEXPECTED.code)
    return code or "invalid_request"


def error_body(error: Exception) -> dict[str, Any]:
    """What a client sees: the sentence of an intended error, nothing of any other."""
    shape = shape_of(error)
    message = "The server failed; the error was logged." if shape is UNEXPECTED else str(error)
    body: dict[str, Any] = {
        "message": message,
        "type": shape.type,
        "param": getattr(error, "param", None),
        "code": shape.code,
    }
    if isinstance(error, errors.AdapterRefused):
        body["reasons"] = [
            {"code": one.code, "subject": one.subject, "message": one.message}
            for one in error.refusals
        ]
    if isinstance(error, errors.VersionInUse):
        body["pointers"] = list(error.pointers)
    return {"error": body}


def error_response(error: Exception) -> JSONResponse:
    shape = shape_of(error)
    headers = dict(shape.headers)
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    if isinstance(error, errors.RateLimited):
        headers |= {"retry-after-ms": str(error.retry_after_ms), **rate_headers(error.rates)}
    return JSONResponse(error_body(error), shape.status, headers)


def install_handlers(app: FastAPI) -> None:
    app.add_exception_handler(errors.RepertoireError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_body)
    app.add_exception_handler(HTTPException, _on_http_exception)


async def _on_error(request: Request, error: Exception) -> Response:
    record = request.scope["state"]["record"]
    record.error = type(error).__name__
    return error_response(error)


async def _on_invalid_body(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await _on_error(request, _invalid_request(error.errors()))


async def _on_http_exception(_: Request, error: Exception) -> Response:
    """What the router itself answers: no such route, no such method, unreadable body."""
    assert isinstance(error, HTTPException)
    body = {
        "message": str(error.detail),
        "type": "invalid_request_error" if error.status_code < 500 else "server_error",
        "param": None,
        "code": _code_of_status(error.status_code),
    }
    return JSONResponse({"error": body}, error.status_code, error.headers)


def _code_of_status(status: int) -> str:
    """`method_not_allowed` and the like; Python's name of 413 changed between versions."""
    return "too_large" if status == 413 else HTTPStatus(status).phrase.lower().replace(" ", "_")


def _invalid_request(found: Iterable[Any]) -> errors.InvalidRequest:
    """The first thing that is wrong; unknown fields all at once, since they come in groups."""
    problems = list(found)
    unknown = [
        ".".join(_shown(part) for part in one["loc"][1:])
        for one in problems
        if one["type"] == "extra_forbidden"
    ]
    if unknown:
        names = ", ".join(sorted(unknown)[:_MAX_SHOWN])
        return errors.InvalidRequest(f"Unknown fields: {names}.", unknown[0])
    first = problems[0]
    if first["type"] == "json_invalid":
        return errors.InvalidRequest("The body is not valid JSON.")
    param = _path(first["loc"])
    return errors.InvalidRequest(f"{param or 'The body'}: {first['msg']}.", param or None)


def _shown(part: str | int) -> str:
    """A client's own field name: bounded, and printable whatever it holds."""
    return str(part)[:_MAX_SHOWN].encode("ascii", "backslashreplace").decode()


def _path(location: Iterable[str | int]) -> str:
    """`messages[0].content` of ("body", "messages", 0, "content", "str")."""
    path = ""
    for part in list(location)[1:]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif _FIELD.fullmatch(part) and part not in _TYPE_NAMES:
            path += f".{part}" if path else part
    return path
