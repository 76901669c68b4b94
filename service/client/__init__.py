"""The typed client of a server: `Client`, and `AsyncClient` with the same methods to await."""

from service.client.client import AsyncClient, Client
from service.client.errors import (
    ApiError,
    BadRequest,
    ClientError,
    Conflict,
    Forbidden,
    InvalidCall,
    NotFound,
    Refused,
    ServerFailed,
    Throttled,
    UnexpectedAnswer,
    Unreachable,
)
from service.client.results.base import Reason
from service.client.retry import RetryPolicy

__all__ = [
    "ApiError",
    "AsyncClient",
    "BadRequest",
    "Client",
    "ClientError",
    "Conflict",
    "Forbidden",
    "InvalidCall",
    "NotFound",
    "Reason",
    "Refused",
    "RetryPolicy",
    "ServerFailed",
    "Throttled",
    "UnexpectedAnswer",
    "Unreachable",
]
