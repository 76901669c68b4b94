"""Use cases of names: move the current version and the aliases of a name, and take it back."""

import time
from collections.abc import Callable, Collection

from service.adapters.history import NameHistory
from service.adapters.moves import (
    WantedMove,
    check_alive,
    check_expected,
    move_for,
    rollback_for,
)
from service.adapters.operations import Move, Rollback
from service.adapters.store import AdapterStore
from service.errors import NameConflict
from service.handlers.adapter_views import AdapterView
from service.handlers.audit import Action
from service.handlers.changes import Changes
from service.handlers.directory import Directory
from service.handlers.name_audit import NameAudit
from service.handlers.pins import PinBoard
from service.tenancy import bare_name

Expected = Collection[int] | None
"""Revisions of the adapter that the caller has seen and means; None is any."""


class AliasService:
    def __init__(
        self,
        store: AdapterStore,
        directory: Directory,
        changes: Changes,
        audit: NameAudit,
        pins: PinBoard,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._directory = directory
        self._changes = changes
        self._audit = audit
        self._pins = pins
        self._clock = clock

    async def move(self, name: str, wanted: WantedMove, expected: Expected = None) -> AdapterView:
        """All of it or nothing; requests in flight finish on the version that they have.

        Raises `AdapterNotFound`, `UnknownTarget`, `PinLimitExceeded` or `PreconditionFailed`.
        """
        created_at = int(self._clock())

        def decide(history: NameHistory) -> Move | None:
            check_expected(name, history, expected)
            check_alive(name, history, created_at)
            move = move_for(name, history, wanted, created_at)
            self._check_content(name, history, move)
            self._pins.check(name, history, move)
            return move

        return await self._changes.change(self._change(_action(wanted), name, decide))

    async def rollback(self, name: str, expected: Expected = None) -> AdapterView:
        """To the version that was current before; once more, to the one before that.

        Raises `AdapterNotFound`, `NameConflict` or `PreconditionFailed`.
        """
        created_at = int(self._clock())

        def decide(history: NameHistory) -> Rollback:
            check_expected(name, history, expected)
            check_alive(name, history, created_at)
            rollback = rollback_for(name, history, created_at)
            self._check_content(name, history, rollback)
            return rollback

        return await self._changes.change(self._change(Action.ADAPTER_ROLLBACK, name, decide))

    async def _change(
        self,
        action: Action,
        name: str,
        decide: Callable[[NameHistory], Move | Rollback | None],
    ) -> AdapterView:
        async with self._changes.lock, self._audit.of(action, name):
            if await self._changes.in_thread(self._store.change, name, decide):
                self._directory.register(name)
            return self._directory.view(name)

    def _check_content(
        self, name: str, history: NameHistory, operation: Move | Rollback | None
    ) -> None:
        for number in _targets(operation):
            if self._store.manifest(history.versions[number].digest) is None:
                shown = f"{bare_name(name)}@{number}"
                raise NameConflict(f"The stored content of {shown} is damaged.")


def _action(wanted: WantedMove) -> Action:
    """What it is called in the audit log; with anything else beside it, it is part of a move."""
    if wanted == WantedMove():
        return Action.ADAPTER_MOVE
    if wanted == WantedMove(pinned=wanted.pinned):
        return Action.ADAPTER_PIN
    is_shared = wanted == WantedMove(visibility=wanted.visibility)
    return Action.ADAPTER_SHARE if is_shared else Action.ADAPTER_MOVE


def _targets(operation: Move | Rollback | None) -> set[int]:
    match operation:
        case Rollback(number=number):
            return {number}
        case Move(current=current, aliases=aliases):
            named = {number for _, shares in aliases for number, _ in shares}
            return named if current is None else named | {current}
        case _:
            return set()
