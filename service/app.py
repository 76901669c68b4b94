"""The application: which routes, which error handlers, which middleware, in which order."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from service.api import (
    adapters,
    aliases,
    chat,
    completions,
    deletions,
    health,
    keys,
    models,
    tenants,
    warming,
)
from service.api.auth import AuthMiddleware
from service.api.dependencies import Services
from service.api.document import install_document
from service.api.exceptions import install_handlers
from service.api.metrics_server import metrics_server
from service.api.middleware import (
    API_PREFIX,
    BodyLimitMiddleware,
    DrainMiddleware,
    RequestMiddleware,
)

_ROUTES = (
    completions,
    chat,
    models,
    adapters,
    aliases,
    deletions,
    warming,
    keys,
    tenants,
)


def create_app(services: Services) -> FastAPI:
    app = FastAPI(
        title="Repertoire",
        version=services.build.version,
        summary="Many adapters on one frozen base model, mixed in one batch.",
        lifespan=_lifespan,
    )
    app.state.services = services
    app.include_router(health.router)
    if services.settings.metrics_port is None:
        app.include_router(health.metrics_router)
    for routes in _ROUTES:
        app.include_router(routes.router, prefix=API_PREFIX)
    install_handlers(app)
    install_document(app)
    _add_middleware(app, services)
    return app


def _add_middleware(app: FastAPI, services: Services) -> None:
    """Innermost first."""
    app.add_middleware(
        BodyLimitMiddleware,
        max_bytes=services.settings.max_body_bytes,
        uploads_path=f"{API_PREFIX}/adapters",
    )
    app.add_middleware(DrainMiddleware, lifecycle=services.lifecycle)
    app.add_middleware(AuthMiddleware, gate=services.access.gate)
    app.add_middleware(RequestMiddleware, telemetry=services.telemetry)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    metrics = services.telemetry.metrics
    async with metrics_server(services.settings, metrics), services.running():
        services.lifecycle.mark_ready()
        yield
        services.lifecycle.start_draining()
