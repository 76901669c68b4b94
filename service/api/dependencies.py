"""What the routes are given: built once by the composition root, found on the application."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Header, Request

from service.base import BaseDescription
from service.engine.client import EngineClient
from service.errors import PermissionDenied
from service.handlers.access import Access
from service.handlers.adapters import AdapterService
from service.handlers.audit import AuditLog
from service.handlers.generation import GenerationHandler
from service.handlers.imports import ImportService
from service.handlers.lifecycle import Lifecycle
from service.handlers.models import ModelCatalog
from service.handlers.residency import ResidencyReader
from service.handlers.usage import UsageLedger
from service.handlers.warming import Warmer
from service.settings import Settings
from service.telemetry import RequestRecord, Telemetry
from service.tenancy import Principal, Role


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
    imports: ImportService
    models: ModelCatalog
    engine: EngineClient
    warmer: Warmer
    residency: ResidencyReader
    telemetry: Telemetry
    lifecycle: Lifecycle
    access: Access
    audit: AuditLog
    usage: UsageLedger
    degraded: Callable[[], Sequence[str]] = tuple
    """What this replica cannot do for now though it takes requests, each as a sentence."""
    running: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    """Entered on the event loop before the first request, left after the last: starts and stops
    what needs the loop (the engine's thread, the adapter store)."""


class _State(Protocol):
    services: Services


# FastAPI calls what is not async on a thread, which is dear: both ways go through the lock that the
# engine's thread holds.
async def get_services(request: Request) -> Services:
    state: _State = request.app.state
    return state.services


async def get_record(request: Request) -> RequestRecord:
    record: RequestRecord = request.scope["state"]["record"]
    return record


async def get_principal(request: Request) -> Principal:
    """Missing outside the key check, which must not go unnoticed."""
    principal: Principal = request.scope["state"]["principal"]
    return principal


PrincipalDep = Annotated[Principal, Depends(get_principal)]


def require(role: Role) -> Callable[[Principal], Awaitable[Principal]]:
    """A dependency that hands the principal on. Before any look-up, so it tells of none."""

    async def check(principal: PrincipalDep) -> Principal:
        if not principal.role.includes(role):
            raise PermissionDenied(f"This needs a key with the role {role.value!r}.")
        return principal

    return check


async def require_operator(principal: PrincipalDep) -> Principal:
    if not principal.is_operator:
        raise PermissionDenied("This needs an operator's key.")
    return principal


PublisherDep = Annotated[Principal, Depends(require(Role.PUBLISH))]
AdminDep = Annotated[Principal, Depends(require(Role.ADMIN))]
OperatorDep = Annotated[Principal, Depends(require_operator)]
ServicesDep = Annotated[Services, Depends(get_services)]
RecordDep = Annotated[RequestRecord, Depends(get_record)]
StickyKeyHeader = Annotated[
    str,
    Header(
        description="Of an alias with weights, the same key always gets the same version; "
        "goes before the field `user`."
    ),
]
