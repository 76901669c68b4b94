"""Who changed what, and when: append-only, one log per day (UTC), readable as pages.

An entry is written once the change is durable and before it is acknowledged. So what was
acknowledged is in the log; a crash between the two leaves a change that nobody was told of.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

from service.adapters.backends.records import Record, RecordLogs
from service.errors import InvalidRequest
from service.handlers.report_desk import ReportDesk
from service.tenancy import Principal

FOLDER = "audit"
SERVER = "server"
"""Who acts where no request does, as at the start."""
ANONYMOUS = "anonymous"

State = Mapping[str, Any]
"""JSON: what was, or is, so of the target; only what has changed."""


class Action(StrEnum):
    ADAPTER_PUBLISH = "adapter.publish"
    ADAPTER_MOVE = "adapter.move"
    ADAPTER_ROLLBACK = "adapter.rollback"
    ADAPTER_DELETE = "adapter.delete"
    ADAPTER_RESTORE = "adapter.restore"
    ADAPTER_SHARE = "adapter.share"
    ADAPTER_PIN = "adapter.pin"
    VERSION_DELETE = "version.delete"
    COLLECT_GARBAGE = "gc"
    KEY_CREATE = "key.create"
    KEY_REVOKE = "key.revoke"
    TENANT_CREATE = "tenant.create"
    TENANT_CHANGE = "tenant.change"
    TENANT_DELETE = "tenant.delete"


@dataclass(frozen=True, slots=True)
class Actor:
    tenant: str
    key_id: str
    """Public id of a key, `settings`, `anonymous` (a server without keys) or `server`."""
    request_id: str = ""

    @classmethod
    def of(cls, principal: Principal, request_id: str) -> "Actor":
        return cls(principal.tenant, principal.key_id or ANONYMOUS, request_id)


_THE_SERVER = Actor("", SERVER)
_acting: ContextVar[Actor] = ContextVar("acting")
"""The edge sets it, so that no use case can forget to hand it on."""


def act_for(actor: Actor) -> None:
    """From here on the running task, and those it starts, change things for `actor`."""
    _acting.set(actor)


def who_acts() -> Actor:
    return _acting.get(_THE_SERVER)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    at: float
    """Unix seconds."""
    actor: Actor
    action: str
    tenant: str
    """Whom it concerns: the owner of the target."""
    target: str
    """By its name within that tenant."""
    before: State
    after: State


@dataclass(frozen=True, slots=True)
class AuditPage:
    entries: tuple[tuple[str, AuditEntry], ...]
    """Each with the cursor after which the next one comes."""
    has_more: bool


class AuditLog:
    def __init__(self, logs: RecordLogs, clock: Callable[[], float] = time.time) -> None:
        self._logs = logs
        self._clock = clock
        self._desk = ReportDesk()
        self._lock = asyncio.Lock()
        self._next: tuple[str, int] = ("", 0)
        """Log and number that come next, as far as this process knows."""

    async def record(
        self,
        action: Action,
        tenant: str,
        target: str,
        before: State | None = None,
        after: State | None = None,
    ) -> None:
        """Durable when it returns."""
        entry = AuditEntry(
            self._clock(), who_acts(), action, tenant, target, before or {}, after or {}
        )
        async with self._lock:
            await asyncio.to_thread(self._append, entry)

    async def page(
        self, first: date, last: date, limit: int, after: str | None, tenant: str | None
    ) -> AuditPage:
        """Oldest first; `tenant` None is everybody. Raises `InvalidRequest` or `Overloaded`."""
        day, number = _parse_cursor(after) if after else (first, 0)
        if day < first:
            day, number = first, 0
        async with self._desk.turn(tenant):
            return await self._desk.read(lambda: self._page(day, last, number, limit, tenant))

    def _append(self, entry: AuditEntry) -> None:
        log = _log(datetime.fromtimestamp(entry.at, UTC).date())
        number = self._next[1] if self._next[0] == log else len(self._logs.read(log))
        while True:
            try:
                self._logs.append(log, number, asdict(entry))
                break
            except FileExistsError:
                number += len(self._logs.read(log, number))
        self._next = (log, number + 1)

    def _page(
        self, day: date, last: date, number: int, limit: int, tenant: str | None
    ) -> AuditPage:
        found: list[tuple[str, AuditEntry]] = []
        for cursor, entry in self._entries(day, last, number, tenant):
            if len(found) == limit:
                return AuditPage(tuple(found), has_more=True)
            found.append((cursor, entry))
        return AuditPage(tuple(found), has_more=False)

    def _entries(
        self, day: date, last: date, number: int, tenant: str | None
    ) -> Iterator[tuple[str, AuditEntry]]:
        """A tenant's are numbered without the others', whose number is not its business."""
        while day <= last:
            if tenant is None:
                entries = [_entry(record) for record in self._logs.read(_log(day), number)]
            else:
                entries = self._of_tenant(day, tenant)[number:]
            for offset, entry in enumerate(entries):
                yield f"{day.isoformat()}.{number + offset + 1}", entry
            day, number = day + timedelta(days=1), 0

    def _of_tenant(self, day: date, tenant: str) -> list[AuditEntry]:
        entries = map(_entry, self._logs.read(_log(day)))
        return [entry for entry in entries if entry.tenant == tenant]


def _log(day: date) -> str:
    return f"{FOLDER}/{day.isoformat()}"


def _entry(record: Record) -> AuditEntry:
    return AuditEntry(**{**record, "actor": Actor(**record["actor"])})


def _parse_cursor(text: str) -> tuple[date, int]:
    day, _, number = text.partition(".")
    try:
        if not (number.isascii() and number.isdigit() and len(number) <= 10):
            raise ValueError
        return date.fromisoformat(day), int(number)
    except ValueError:
        raise InvalidRequest("`after` is no cursor of the audit log.", "after") from None
