"""The body of `PATCH /v1/adapters/{name}`, and how aliases are shown."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.adapters.lifetime import MAX_TTL_S, Lifetime
from service.adapters.moves import MAX_ALIASES, WantedMove
from service.adapters.naming import ALIAS_RULE, is_valid_alias
from service.adapters.shares import Shares
from service.api.schemas.visibility import VisibilityField, visibility_of
from service.errors import InvalidRequest

MAX_SHARES = 16
MAX_SHARE = 1_000_000
_MAX_NUMBER = 10**18 - 1
MAX_MOMENT = 10**11
"""Unix seconds beyond all that a lifetime may reach."""

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

    pinned: bool | None = Field(
        None,
        description="Whether what the name and its aliases lead to stays in host memory, used or "
        "not.",
    )
    ttl_s: int | None = Field(
        None,
        ge=1,
        le=MAX_TTL_S,
        description="Seconds from now after which the name is deleted; null = never.",
    )
    expires_at: int | None = Field(
        None,
        ge=1,
        le=MAX_MOMENT,
        description="The same as a moment (Unix seconds); null = never.",
    )

    def _lifetime(self) -> Lifetime | None:
        """None leaves it as it is."""
        if not self.model_fields_set & {"ttl_s", "expires_at"}:
            return None
        return lifetime_of(self.ttl_s, self.expires_at)

    def to_move(self) -> WantedMove:
        for alias in self.aliases:
            if not is_valid_alias(alias):
                raise InvalidRequest(f"{alias[:200]!r} is no alias: {ALIAS_RULE}.", "aliases")
        return WantedMove(
            self.current,
            {alias: _shares(target) for alias, target in self.aliases.items()},
            None if self.visibility is None else visibility_of(self.visibility),
            self.pinned,
            self._lifetime(),
        )


def lifetime_of(ttl_s: int | None, expires_at: int | None) -> Lifetime:
    if ttl_s is not None and expires_at is not None:
        raise InvalidRequest("ttl_s and expires_at say the same; send one of them.", "ttl_s")
    return Lifetime(expires_at, ttl_s)


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
