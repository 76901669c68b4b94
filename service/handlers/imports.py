"""Use case: fetch an adapter from a source in the background, then publish it like an upload.

The event loop has every import of this process; other replicas learn of them through the board.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from service.adapters.backends.import_board import ImportBoard, NoBoard
from service.adapters.origin import Origin
from service.adapters.staging import Staging
from service.errors import (
    ImportNotFound,
    ImportNotStoppable,
    PermissionDenied,
    RepertoireError,
    SourceTimeout,
)
from service.handlers.adapter_views import PublishResult
from service.handlers.adapters import AdapterService, Terms
from service.handlers.import_list import Import, ImportList
from service.handlers.import_target import ImportTarget
from service.handlers.import_views import (
    INTERRUPTED,
    Failure,
    ImportedVersion,
    ImportState,
    ImportView,
)
from service.handlers.turns import Turns
from service.import_metrics import ImportMetrics
from service.phases import collect_phases
from service.sources.catalog import SourceCatalog
from service.sources.source import Source
from service.tenancy import Principal, qualified

log = structlog.get_logger(__name__)

_MAX_REVISION = 256
"""Characters; an ETag is as long as its server likes."""


@dataclass(frozen=True, slots=True)
class ImportPace:
    timeout_s: float = 3600.0
    """Of one fetch, without the wait for its turn."""
    bytes_per_second: int | None = None
    num_at_once: int = 8
    num_at_once_of_tenant: int = 2
    kept_s: float = 24 * 3600.0
    """How long it is told how an import has ended."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asks for, beside the source itself."""

    tenant: str
    name: str
    convert_rank: int | None
    terms: Terms


class ImportService:
    def __init__(
        self,
        adapters: AdapterService,
        sources: SourceCatalog,
        metrics: ImportMetrics,
        board: ImportBoard | None = None,
        pace: ImportPace | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._adapters = adapters
        self._sources = sources
        self._metrics = metrics
        self._pace = pace or ImportPace()
        self._clock = clock
        self._imports = ImportList(board or NoBoard(), self._pace.kept_s, clock)
        self._turns = Turns(self._pace.num_at_once)
        self._turns_of: dict[str, Turns] = {}
        self._is_closing = False

    async def start(self) -> None:
        await self._imports.start()

    async def close(self, timeout_s: float) -> None:
        """Fetches end now; what is being compiled has so much time to be published before the
        engine stops."""
        self._is_closing = True
        await self._imports.close()
        running = [(one, one.task) for one in self._imports.running() if one.task is not None]
        fetching = {task for one, task in running if one.view.state.is_stoppable}
        for one, _ in running:
            one.stop()
        if fetching:
            await asyncio.wait(fetching)
        if compiling := {task for _, task in running} - fetching:
            await asyncio.wait(compiling, timeout=timeout_s)
        await self._sources.close()

    async def begin(self, source: str, wanted: Wanted) -> ImportView:
        """Raises what an upload raises before its first byte, and `SourceRefused`."""
        found = self._sources.find(source)
        name = qualified(wanted.tenant, wanted.name)
        self._adapters.check_wanted(name, wanted.convert_rank, wanted.terms)
        staging = await self._adapters.intake.open(0, wanted.tenant)
        import_id = secrets.token_hex(12)
        view = ImportView(import_id, wanted.tenant, wanted.name, found.shown, self._clock())
        one = Import(view, found.scheme)
        self._imports.add(one)
        self._metrics.move(None, view.state.value)
        log.info("import_begins", import_id=view.id, adapter=name, source=view.source)
        one.task = asyncio.create_task(self._run(one, found, staging, wanted))
        await self._imports.tell(one)
        return view

    async def get(self, principal: Principal, import_id: str) -> ImportView:
        """Raises `ImportNotFound`, or `StoreUnavailable` if only another replica may know it."""
        view = await self._imports.find(import_id)
        if view is None or not principal.acts_for(view.tenant):
            raise ImportNotFound(import_id)
        return view

    async def list(self, principal: Principal, tenant: str | None) -> Sequence[ImportView]:
        """A tenant's, the latest first. Raises `PermissionDenied`."""
        owner = principal.tenant if tenant is None else tenant
        if not principal.acts_for(owner):
            raise PermissionDenied("What other tenants import needs an operator's key.")
        return await self._imports.of_tenant(owner)

    async def stop(self, principal: Principal, import_id: str) -> ImportView:
        """One that is over stays as it is; another replica's ends within seconds.

        Raises `ImportNotFound` or `ImportNotStoppable`.
        """
        view = await self.get(principal, import_id)
        if view.state.is_over:
            return view
        if not view.state.is_stoppable:
            raise ImportNotStoppable(
                "The adapter is here and being compiled, which goes on to its end."
            )
        one = self._imports.own(import_id)
        if one is None:
            await self._imports.ask_to_stop(import_id)
            return view
        one.stop()
        if one.task is not None:
            await asyncio.wait({one.task})
        return one.view

    async def _run(self, one: Import, source: Source, staging: Staging, wanted: Wanted) -> None:
        try:
            self._end(one, await self._import(one, source, staging, wanted))
        except asyncio.CancelledError:
            # Nobody else cancels it.
            self._end(one, INTERRUPTED if self._is_closing else None)
        except Exception as error:
            if not isinstance(error, RepertoireError):
                log.exception("import failed", import_id=one.view.id)
            self._end(one, Failure.of(error))
        await self._imports.tell(one)

    async def _import(
        self, one: Import, source: Source, staging: Staging, wanted: Wanted
    ) -> PublishResult:
        try:
            revision = (await self._fetch(one, source, staging))[:_MAX_REVISION]
        except BaseException:
            await self._adapters.intake.discard(staging)
            raise
        self._set(one, state=ImportState.VALIDATING, revision=revision)
        collect_phases([], lambda phase: self._note_phase(one, phase))
        return await self._adapters.publish(
            qualified(wanted.tenant, wanted.name),
            staging,
            wanted.convert_rank,
            wanted.terms.lifetime,
            wanted.terms.visibility,
            Origin(source.shown, revision, int(self._clock())),
        )

    async def _fetch(self, one: Import, source: Source, staging: Staging) -> str:
        tenant = one.view.tenant

        def note(num_bytes: int, total: int | None) -> None:
            num_fresh = max(0, num_bytes - one.view.num_bytes)
            self._metrics.count_bytes(source.scheme, num_fresh)
            self._set(one, num_bytes=num_bytes, total_bytes=total)

        target = ImportTarget(
            self._adapters.intake,
            staging,
            self._adapters.limits,
            lambda num_bytes: self._adapters.quotas.check_announced(tenant, num_bytes),
            note,
            self._pace.bytes_per_second,
        )
        own = self._turns_of.setdefault(tenant, Turns(self._pace.num_at_once_of_tenant))
        async with own.of(tenant), self._turns.of(tenant):
            self._set(one, state=ImportState.FETCHING)
            try:
                async with asyncio.timeout(self._pace.timeout_s):
                    return await source.fetch(target)
            except TimeoutError:
                seconds = f"{self._pace.timeout_s:g}"
                raise SourceTimeout(f"It was not fetched within {seconds} seconds.") from None

    def _note_phase(self, one: Import, phase: str) -> None:
        if phase == "compile":
            self._set(one, state=ImportState.COMPILING)

    def _set(self, one: Import, **changes: Any) -> None:
        old, one.view = one.view, replace(one.view, **changes)
        if one.view.state is not old.state:
            is_over = one.view.state.is_over
            self._metrics.move(old.state.value, None if is_over else one.view.state.value)

    def _end(self, one: Import, how: PublishResult | Failure | None) -> None:
        """None: it was cancelled."""
        now = self._clock()
        match how:
            case PublishResult():
                result = ImportedVersion.of(how)
                self._set(one, state=ImportState.READY, finished_at=now, result=result)
            case Failure():
                self._set(one, state=ImportState.FAILED, finished_at=now, failure=how)
            case None:
                self._set(one, state=ImportState.CANCELLED, finished_at=now)
        outcome = how.outcome if isinstance(how, Failure) else one.view.state.value
        self._metrics.count_end(one.scheme, outcome)
        log.info("import_ends", import_id=one.view.id, outcome=outcome, bytes=one.view.num_bytes)
        self._imports.forget_old()
