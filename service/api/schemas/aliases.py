"""The body of `PATCH /v1/adapters/{name}`, and how aliases are shown."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.adapters.moves import MAX_ALIASES, WantedMove
from service.adapters.naming import ALIAS_RULE, is_valid_alias
from service.adapters.shares import Shares
from service.api.schemas.visibility import VisibilityField, visibility_of
from service.errors import InvalidRequest

MAX_SHARES = 16
MAX_SHARE = 1_000_000
_MAX_NUMBER = 10**18 - 1

Number = Annotated[int, Field(ge=1, le=_MAX_NUMBER)]
NumberText = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,17}$")]
Target = int | dict[str, int]
"""As shown: a version, or several with their weights."""
WantedTarget = (
    Number
    | Annotated[
        dict[NumberText, Annotated[int, Field(ge=1, le=MAX_SHARE)]],
        Field(min_length=1, max_length=MAX_SHARES),
    ]
)

_EXAMPLE: dict[str, Any] = {
    "current": 2,
    "aliases": {"stable": 1, "canary": {"1": 95, "2": 5}, "old": None},
    "visibility": {"tenants": ["team-b"]},
}


class MoveBody(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [_EXAMPLE]}
    )

    current: Number | None = Field(None, description="The version that the bare name leads to.")
    aliases: dict[str, WantedTarget | None] = Field(
        {},
        max_length=MAX_ALIASES,
        description="A version, or weights by version, for `name@alias`; null removes it. "
        "Aliases that are not named stay.",
    )

    visibility: VisibilityField | None = Field(
        None, description="Who may use it beside its owner; what is not named stays."
    )

    def to_move(self) -> WantedMove:
        for alias in self.aliases:
            if not is_valid_alias(alias):
                raise InvalidRequest(f"{alias[:200]!r} is no alias: {ALIAS_RULE}.", "aliases")
        return WantedMove(
            self.current,
            {alias: _shares(target) for alias, target in self.aliases.items()},
            None if self.visibility is None else visibility_of(self.visibility),
        )


def shown(shares: Shares) -> Target:
    if len(shares) == 1:
        return shares[0][0]
    return {str(number): weight for number, weight in shares}


def _shares(target: Target | None) -> Shares:
    """One version alone has all of it, whatever its weight is called."""
    if target is None:
        return ()
    if isinstance(target, int):
        return ((target, 1),)
    if len(target) == 1:
        return ((int(next(iter(target))), 1),)
    return tuple(sorted((int(number), weight) for number, weight in target.items()))
