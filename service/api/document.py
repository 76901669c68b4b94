"""The OpenAPI document: what FastAPI cannot know of a route is added to every route alike."""

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.api.middleware import API_PREFIX
from service.api.schemas.errors import ErrorBody, answers

_ANYWHERE = (500,)
_IN_API = (400, 401, 403, 404, 408, 413, 414, 429, 431, 503)
"""What may become of a request before its route sees it, or whatever its route is."""
_METHODS = frozenset({"get", "put", "post", "patch", "delete"})
_REQUEST_ID: dict[str, Any] = {
    "description": "The request's id: the client's own if it was usable.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:/+=@-]{1,128}$"},
}
_RETRY_AFTER: dict[str, Any] = {
    "description": "When to try again, in seconds.",
    "schema": {"type": "integer", "minimum": 0},
}
_RETRYABLE = frozenset({"408", "429", "503", "504"})


def install_document(app: FastAPI) -> None:
    app.openapi = _made_once(app)  # type: ignore[method-assign]


def _made_once(app: FastAPI) -> Callable[[], dict[str, Any]]:
    def make() -> dict[str, Any]:
        if not app.openapi_schema:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    return make


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, summary=app.summary, routes=app.routes
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    body = ErrorBody.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(body.pop("$defs"))
    schemas[ErrorBody.__name__] = body
    for path, operation in _operations(document):
        _complete(path, operation["responses"])
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in _METHODS:
                yield path, operation


def _complete(path: str, responses: dict[str, Any]) -> None:
    if "HTTPValidationError" in str(responses.get("422", "")):
        del responses["422"]  # what FastAPI would answer; here it is a 400
    statuses = (*_IN_API, *_ANYWHERE) if path.startswith(f"{API_PREFIX}/") else _ANYWHERE
    for status, answer in answers(*statuses).items():
        content = {"schema": {"$ref": f"#/components/schemas/{ErrorBody.__name__}"}}
        responses.setdefault(
            str(status),
            {
                "description": answer["description"],
                "content": {"application/json": content},
            },
        )
    for status, response in responses.items():
        headers = response.setdefault("headers", {})
        headers.setdefault("x-request-id", _REQUEST_ID)
        if status in _RETRYABLE:
            headers.setdefault("Retry-After", _RETRY_AFTER)
