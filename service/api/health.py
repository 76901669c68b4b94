"""Probes, metrics and the version: what operators and routers read."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, PlainTextResponse, Response

from service.api.dependencies import OperatorDep, ServicesDep
from service.api.schemas.answers import ProbeAnswer
from service.handlers.lifecycle import LifecycleState

router = APIRouter(tags=["operations"])
metrics_router = APIRouter(tags=["operations"])
"""Left out where `metrics_port` is set."""

_PROBE: dict[int | str, dict[str, Any]] = {
    200: {"model": ProbeAnswer, "description": "Yes."},
    503: {"model": ProbeAnswer, "description": "No."},
}


@router.get(
    "/health",
    summary="Alive: 503 once the engine has died, so that it is restarted",
    responses=_PROBE,
)
async def health(services: ServicesDep) -> Response:
    is_healthy = services.engine.is_healthy
    return JSONResponse({"status": "ok" if is_healthy else "engine_failed"}, _status(is_healthy))


@router.get(
    "/ready",
    summary="Takes requests: 503 while starting, draining, or without engine; `degraded` is a 200",
    responses=_PROBE,
)
async def ready(services: ServicesDep) -> Response:
    state = services.lifecycle.state
    is_ready = services.engine.is_healthy and state is LifecycleState.READY
    shown = state.value if services.engine.is_healthy else "engine_failed"
    if is_ready and (reasons := services.degraded()):
        # Not a 503: a balancer would turn away from every replica at once.
        return JSONResponse({"status": "degraded", "reasons": list(reasons)})
    return JSONResponse({"status": shown}, _status(is_ready))


@metrics_router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
async def metrics(services: ServicesDep, _: OperatorDep) -> Response:
    text = services.telemetry.metrics.render()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/version", summary="What runs here")
async def version(services: ServicesDep) -> dict[str, str | int]:
    base, build = services.base, services.build
    return {
        "version": build.version,
        "model": base.name,
        "architecture": base.architecture,
        "dtype": base.dtype,
        "fingerprint": base.fingerprint,
        "max_model_len": base.max_model_len,
        "device": build.device,
        "torch": build.torch,
        **dict(build.details),
    }


def _status(is_fine: bool) -> int:
    return 200 if is_fine else 503
