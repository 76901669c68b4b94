"""`/metrics` on a port of its own: no key, so it is for the network of those who scrape."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from prometheus_client import start_http_server

from service.metrics import Metrics
from service.settings import Settings

log = structlog.get_logger(__name__)


@asynccontextmanager
async def metrics_server(settings: Settings, metrics: Metrics) -> AsyncIterator[None]:
    """In threads, so that a busy event loop can still be seen to be busy."""
    if settings.metrics_port is None:
        yield
        return
    server, thread = start_http_server(
        settings.metrics_port, settings.metrics_host, metrics.registry
    )
    log.info("metrics_ready", host=settings.metrics_host, port=settings.metrics_port)
    try:
        yield
    finally:
        await asyncio.to_thread(server.shutdown)
        await asyncio.to_thread(thread.join)
        server.server_close()
