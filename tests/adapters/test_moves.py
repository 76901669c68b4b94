"""What a wanted move means, and what is said of one that speaks of nothing."""

import pytest

from service.adapters.history import NameHistory
from service.adapters.moves import MAX_ALIASES, WantedMove, check_expected, move_for, rollback_for
from service.adapters.operations import Move, Publish
from service.errors import (
    AdapterNotFound,
    InvalidRequest,
    NameConflict,
    PreconditionFailed,
    UnknownTarget,
)

ONE, TWO = ((1, 1),), ((2, 1),)


@pytest.fixture
def history() -> NameHistory:
    history = NameHistory()
    for number in (1, 2):
        history.apply(Publish(number, f"d{number}", 0))
    history.apply(Move(0, None, (("stable", ONE), ("old", ONE))))
    return history


def move(history: NameHistory, current: int | None = None, **aliases) -> Move | None:
    return move_for("a", history, WantedMove(current, aliases), 9)


def test_only_what_differs_is_recorded(history: NameHistory) -> None:
    assert move(history, 1, stable=ONE, old=(), canary=TWO) == Move(
        9, 1, (("canary", TWO), ("old", ()))
    )
    assert move(history, 2, stable=ONE) is None
    assert move(history) is None


@pytest.mark.parametrize(
    ("current", "aliases", "param", "said"),
    [
        (3, {}, "current", "no version 3"),
        (None, {"stable": ((1, 95), (7, 5))}, "aliases.stable", "no version 7"),
        (None, {"stable": TWO, "never": ()}, "aliases.never", "no alias 'never'"),
    ],
)
def test_the_unknown_is_named(
    history: NameHistory, current: int | None, aliases: dict, param: str, said: str
) -> None:
    with pytest.raises(UnknownTarget, match=said) as caught:
        move(history, current, **aliases)
    assert caught.value.param == param


def test_aliases_are_bounded(history: NameHistory) -> None:
    full = {f"x{i}": ONE for i in range(MAX_ALIASES - 2)}
    assert move(history, **full) is not None
    with pytest.raises(InvalidRequest, match=str(MAX_ALIASES)):
        move(history, **full, extra=ONE)
    assert move(history, **full, extra=ONE, old=()) is not None


def test_expectations(history: NameHistory) -> None:
    check_expected("a", history, None)
    check_expected("a", history, {3, 7})
    for stale in ({2}, set()):
        with pytest.raises(PreconditionFailed, match="'a'"):
            check_expected("a", history, stale)
    with pytest.raises(AdapterNotFound):
        check_expected("b", NameHistory(), {0})


def test_what_is_said_names_the_adapter_as_its_owner_does(history: NameHistory) -> None:
    wrong = (WantedMove(9), WantedMove(aliases={"none": ()}))
    for wanted in wrong:
        with pytest.raises(UnknownTarget, match=r"^'a' has no"):
            move_for("team-a/a", history, wanted, 5)
    with pytest.raises(PreconditionFailed, match="adapter 'a' was changed"):
        check_expected("team-a/a", history, {0})
    with pytest.raises(NameConflict, match=r"^No version of 'a' was"):
        rollback_for("team-a/a", NameHistory(), 5)
