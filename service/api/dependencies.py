"""What the routes are given: built once by the composition root, found on the application."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Header, Request

from service.base import BaseDescription
from service.engine.client import EngineClient
from service.handlers.adapters import AdapterService
from service.handlers.generation import GenerationHandler
from service.handlers.lifecycle import Lifecycle
from service.handlers.models import ModelCatalog
from service.settings import Settings
from service.telemetry import RequestRecord, Telemetry


@dataclass(frozen=True, slots=True)
class BuildInfo:
    """What `/version` shows: which code runs on what."""

    version: str
    torch: str
    device: str
    base_created: int = 0
    """Unix seconds, the same after a restart: when the base's files were made."""
    details: tuple[tuple[str, str], ...] = ()
    """Further (name, value) pairs, e.g. the lane and the kernels that were chosen."""


@dataclass(frozen=True, slots=True)
class Services:
    settings: Settings
    base: BaseDescription
    build: BuildInfo
    generation: GenerationHandler
    adapters: AdapterService
    models: ModelCatalog
    engine: EngineClient
    telemetry: Telemetry
    lifecycle: Lifecycle
    running: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    """Entered on the event loop before the first request, left after the last: starts and stops
    what needs the loop (the engine's thread, the adapter store)."""


class _State(Protocol):
    services: Services


def get_services(request: Request) -> Services:
    state: _State = request.app.state
    return state.services


def get_record(request: Request) -> RequestRecord:
    record: RequestRecord = request.scope["state"]["record"]
    return record


ServicesDep = Annotated[Services, Depends(get_services)]
RecordDep = Annotated[RequestRecord, Depends(get_record)]
StickyKeyHeader = Annotated[
    str,
    Header(
        description="Of an alias with weights, the same key always gets the same version; "
        "goes before the field `user`."
    ),
]
