"""What each tenant used: counted in memory, written down every few seconds, reported by day.

A crash loses what was counted since the last write; a shutdown loses nothing.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

import structlog

from service.adapters.backends.usage import Rows, Usage, UsageKey, UsageStore, add_row
from service.core import AdapterRef
from service.handlers.accounting import AnswerSummary, Outcome, name_and_version
from service.handlers.background import Background
from service.handlers.report_desk import ReportDesk

MAX_PENDING = 10_000
"""Rows of a day that wait to be written; what comes then is counted under its tenant alone."""

_log = structlog.get_logger(__name__)


class Dimension(StrEnum):
    """What a report may tell apart, in the order in which it is sorted."""

    DAY = "day"
    TENANT = "tenant"
    ADAPTER = "adapter"
    VERSION = "version"


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What is not told apart is None."""

    day: date | None
    tenant: str | None
    adapter: str | None
    version: str | None
    usage: Usage

    @property
    def id(self) -> str:
        """By which rows are sorted and pages are joined."""
        return "|".join(str(one or "") for one in (self.day, self.tenant, self.adapter)) + (
            f"|{(self.version or ''):0>19}"
        )


@dataclass(frozen=True, slots=True)
class UsagePage:
    rows: tuple[UsageRow, ...]
    has_more: bool
    total: Usage
    """Of all rows, those of other pages included."""


class UsageLedger:
    def __init__(
        self,
        store: UsageStore,
        base_name: str,
        flush_s: float,
        clock: Callable[[], float] = time.time,
        max_pending: int = MAX_PENDING,
    ) -> None:
        self._store = store
        self._base_name = base_name
        self._flush_s = flush_s
        self._clock = clock
        self._max_pending = max_pending
        self._pending: dict[date, dict[UsageKey, Usage]] = {}
        self._desk = ReportDesk()
        self._lock = asyncio.Lock()
        """Held while what is pending moves to the store, so that nothing is seen twice or never."""
        self._background = Background()

    def count(self, summary: AnswerSummary) -> None:
        """An `AnswerSink`."""
        key = UsageKey(summary.tenant, *name_and_version(summary.adapter, self._base_name))
        usage = Usage(
            requests=1,
            errors=int(summary.outcome is Outcome.FAILED),
            prompt_tokens=summary.num_prompt_tokens,
            cached_tokens=summary.num_cached_tokens,
            completion_tokens=summary.num_generated_tokens,
            loaded_bytes=summary.loaded_bytes,
        )
        self._add(key, usage)

    def count_load(self, tenant: str, adapter: AdapterRef) -> None:
        """Of a load whose requests have left, each of them counted without its bytes."""
        key = UsageKey(tenant, *name_and_version(adapter, self._base_name))
        self._add(key, Usage(loaded_bytes=adapter.compiled_bytes))

    def _add(self, key: UsageKey, usage: Usage) -> None:
        today = datetime.fromtimestamp(self._clock(), UTC).date()
        add_row(self._pending.setdefault(today, {}), key, usage, self._max_pending)

    async def start(self) -> None:
        self._background.start(self._flush_for_ever())

    async def close(self) -> None:
        await self._background.stop()
        await self.flush()

    async def flush(self) -> None:
        """What could not be written is kept, and tried again next time."""
        async with self._lock:
            for day in list(self._pending):
                rows = self._pending.pop(day)
                # In a task of its own, so that a cancelled flush still knows what became of it.
                writing = asyncio.ensure_future(asyncio.to_thread(self._store.add, day, rows))
                try:
                    await asyncio.shield(writing)
                except asyncio.CancelledError:
                    await asyncio.wait({writing})
                    self._keep_unless_written(writing, day, rows)
                    raise
                except Exception:
                    self._keep_unless_written(writing, day, rows)

    async def report(
        self,
        first: date,
        last: date,
        group_by: Collection[Dimension],
        tenant: str | None,
        limit: int,
        after: str | None = None,
    ) -> UsagePage:
        """`tenant` None is everybody. A version is told apart with its adapter.

        Raises `Overloaded`.
        """
        # The turn first: of what waits for the lock, which a flush needs too, one is a tenant's.
        async with self._desk.turn(tenant), self._lock:
            sums = await self._desk.read(
                lambda: self._sums(first, last, frozenset(group_by), tenant)
            )
            for day, rows in self._pending.items():
                if first <= day <= last:
                    _sum_up(sums, day, rows, group_by, tenant)
        found = sorted((UsageRow(*key, usage) for key, usage in sums.items()), key=lambda r: r.id)
        rest = [row for row in found if after is None or row.id > after]
        total = sum((row.usage for row in found), Usage())
        return UsagePage(tuple(rest[:limit]), len(rest) > limit, total)

    def _sums(
        self, first: date, last: date, group_by: Collection[Dimension], tenant: str | None
    ) -> "Sums":
        sums: Sums = {}
        for day in _days(first, last):
            _sum_up(sums, day, self._store.read(day), group_by, tenant)
        return sums

    def _keep_unless_written(
        self, writing: "asyncio.Future[None]", day: date, rows: dict[UsageKey, Usage]
    ) -> None:
        error = writing.exception()
        if error is None:
            return
        _log.error("usage_not_written", exc_info=error)
        for key, usage in self._pending.pop(day, {}).items():
            add_row(rows, key, usage, self._max_pending)
        self._pending[day] = rows

    async def _flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._flush_s)
            await self.flush()


Sums = dict[tuple[date | None, str | None, str | None, str | None], Usage]


def _sum_up(
    sums: Sums, day: date, rows: Rows, group_by: Collection[Dimension], tenant: str | None
) -> None:
    has_version = Dimension.VERSION in group_by
    for key, usage in rows.items():
        if tenant is not None and key.tenant != tenant:
            continue
        group = (
            day if Dimension.DAY in group_by else None,
            key.tenant if Dimension.TENANT in group_by else None,
            key.adapter if has_version or Dimension.ADAPTER in group_by else None,
            key.version if has_version else None,
        )
        sums[group] = sums.get(group, Usage()) + usage


def _days(first: date, last: date) -> Iterator[date]:
    while first <= last:
        yield first
        first += timedelta(days=1)
