"""What a wanted change of a name's pointers means for its history. Pure.

Asked again with the newer history whenever another writer was first, so what a client expects and
what it gets are decided by the same record.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from service.adapters.history import NameHistory
from service.adapters.lifetime import Lifetime
from service.adapters.operations import Move, Rollback
from service.adapters.shares import Shares
from service.errors import (
    AdapterNotFound,
    InvalidRequest,
    NameConflict,
    PreconditionFailed,
    UnknownTarget,
)
from service.tenancy import Visibility, bare_name

MAX_ALIASES = 64
"""Of one name; every one is looked at whenever a change is made."""


@dataclass(frozen=True, slots=True)
class WantedMove:
    current: int | None = None
    """None leaves it where it is."""
    aliases: Mapping[str, Shares] = field(default_factory=dict)
    """No shares at all remove the alias."""
    visibility: Visibility | None = None
    """None leaves it as it is."""
    pinned: bool | None = None
    """None leaves it as it is."""
    lifetime: Lifetime | None = None
    """None leaves it as it is."""


def check_expected(name: str, history: NameHistory, expected: Collection[int] | None) -> None:
    """`expected` are the numbers of operations that the caller has seen; None is any."""
    if not history.versions:
        raise AdapterNotFound(name)
    check_revision(name, history, expected)


def check_alive(name: str, history: NameHistory, now: int) -> None:
    """A name that is over is gone, also before it is deleted for that."""
    if history.is_expired(now):
        raise AdapterNotFound(name)


def check_revision(name: str, history: NameHistory, expected: Collection[int] | None) -> None:
    """Of a deleted name too."""
    if expected is not None and history.num_operations not in expected:
        raise PreconditionFailed(
            f"The adapter {bare_name(name)!r} was changed meanwhile; read it again and decide anew."
        )


def move_for(name: str, history: NameHistory, wanted: WantedMove, created_at: int) -> Move | None:
    """None when everything already is as wanted. Raises `UnknownTarget`."""
    if wanted.current is not None:
        _check_version(name, history, wanted.current, "current")
    for alias, shares in wanted.aliases.items():
        if not shares and alias not in history.aliases:
            raise UnknownTarget(f"{bare_name(name)!r} has no alias {alias!r}.", f"aliases.{alias}")
        for number, _ in shares:
            _check_version(name, history, number, f"aliases.{alias}")
    current = None if wanted.current == history.current else wanted.current
    changed = {a: s for a, s in wanted.aliases.items() if history.aliases.get(a, ()) != s}
    known = history.visibility_of(name)
    visibility = None if wanted.visibility == known else wanted.visibility
    pinned = None if wanted.pinned == history.pinned else wanted.pinned
    end = None if wanted.lifetime is None else wanted.lifetime.end(created_at)
    if end is not None and (end or None) == history.expires_at:
        end = None
    aliases = tuple(sorted(changed.items()))
    move = Move(created_at, current, aliases, visibility, pinned, end)
    if move == Move(created_at):
        return None
    if sum(map(bool, (history.aliases | changed).values())) > MAX_ALIASES:
        raise InvalidRequest(f"An adapter has at most {MAX_ALIASES} aliases.", "aliases")
    return move


def rollback_for(name: str, history: NameHistory, created_at: int) -> Rollback:
    """Raises `NameConflict` when no version was current before."""
    for number in reversed(history.trail):
        if number != history.current and number in history.versions:
            return Rollback(number, created_at)
    raise NameConflict(
        f"No version of {bare_name(name)!r} was current before version {history.current}."
    )


def _check_version(name: str, history: NameHistory, number: int, param: str) -> None:
    if number not in history.versions:
        raise UnknownTarget(f"{bare_name(name)!r} has no version {number}.", param)
