"""The error body, and the statuses that carry it, for the OpenAPI document."""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

_DESCRIPTIONS = {
    400: "A field of the request is wrong; `param` says which.",
    401: "No key, or a wrong one.",
    403: "The key does not allow it.",
    404: "It does not exist.",
    408: "The request arrived too slowly.",
    409: "The name is taken, or in use, in a way that forbids the change.",
    412: "It was changed since the client saw it.",
    413: "More bytes or files than allowed.",
    414: "The address is too long.",
    415: "Not a form that can be read.",
    422: "It cannot be served or found as asked; the reasons say why.",
    429: "More than the key's share.",
    431: "Too many or too large headers.",
    500: "The server failed.",
    503: "No room now, or shutting down.",
    504: "The adapter could not be loaded in time.",
    507: "The store is full.",
}


class RefusalReason(BaseModel):
    code: str
    subject: str
    message: str


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None
    reasons: list[RefusalReason] | None = None
    """Why an upload was refused; absent in every other error."""
    pointers: list[str] | None = None
    """What leads to a version that is in use, as a PATCH names it; absent in every other error."""


class ErrorBody(BaseModel):
    error: ErrorDetail


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: those that not every route has."""
    return {
        status: {
            "model": ErrorBody,
            "description": _DESCRIPTIONS.get(status, HTTPStatus(status).phrase),
        }
        for status in statuses
    }
