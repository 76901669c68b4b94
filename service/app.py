"""The application: which routes, which error handlers, which middleware, in which order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from service.api import (
    adapters,
    aliases,
    audit,
    chat,
    completions,
    deletions,
    health,
    imports,
    keys,
    models,
    residency,
    tenants,
    usage,
    warming,
)
from service.api.auth import AuthMiddleware
from service.api.dependencies import Services
from service.api.document import install_document
from service.api.exceptions import install_handlers
from service.api.json_bounds import JsonBoundsMiddleware
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
    imports,
    audit,
    deletions,
    warming,
    residency,
    keys,
    tenants,
    usage,
)
# Its exceptions and values may hold what users write; our own spans are told what they may say.
_NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


def create_app(services: Services) -> FastAPI:
    app = FastAPI(
        title="Repertoire",
        version=services.build.version,
        summary="Many adapters on one frozen base model, mixed in one batch.",
        lifespan=_lifespan,
        telemetry=_NO_TELEMETRY,
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
    uploads_path = f"{API_PREFIX}/adapters"
    app.add_middleware(JsonBoundsMiddleware, uploads_path=uploads_path)
    app.add_middleware(
        BodyLimitMiddleware,
        max_bytes=services.settings.max_body_bytes,
        uploads_path=uploads_path,
    )
    app.add_middleware(DrainMiddleware, lifecycle=services.lifecycle)
    app.add_middleware(AuthMiddleware, gate=services.access.gate)
    app.add_middleware(RequestMiddleware, telemetry=services.telemetry)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    telemetry = services.telemetry
    try:
        async with metrics_server(services.settings, telemetry.metrics), services.running():
            services.lifecycle.mark_ready()
            yield
            services.lifecycle.start_draining()
    finally:
        if telemetry.tracer is not None:
            await asyncio.to_thread(telemetry.tracer.close)
