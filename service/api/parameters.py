"""Parameters that several routes take, with examples that are real on the demo."""

from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import Path, Query

AdapterName = Annotated[str, Path(description="Name of an adapter.", examples=["date-iso"])]
AdapterSelector = Annotated[
    str,
    Path(
        description="`name`, `name@version`, `name@sha256:digest` or `name@alias`.",
        examples=["date-iso", "date-iso@1", "date-iso@stable"],
    ),
]
KeyId = Annotated[str, Path(description="Public id of a key.", examples=["0123456789abcdef"])]
TenantName = Annotated[str, Path(description="Name of a tenant.", examples=["team-a"])]
ImportId = Annotated[
    str,
    Path(description="As the answer to its start says it.", examples=["0123456789abcdef01234567"]),
]
OwnedBy = Annotated[
    str | None,
    Query(
        alias="tenant",
        max_length=63,
        description="Whose adapter it is; by default the caller's own, then the operator's.",
    ),
]
ModelPath = Annotated[
    str,
    Path(
        description="The base, or an adapter as in `model` of a completion.",
        examples=["date-iso", "date-iso@1"],
    ),
]
FromDay = Annotated[
    date | None,
    Query(alias="from", description="First day, in UTC; by default six days before the last."),
]
ToDay = Annotated[date | None, Query(alias="to", description="Last day, in UTC; by default today.")]
OfTenant = Annotated[
    str | None,
    Query(max_length=63, description="Only this tenant's; an operator sees all by default."),
]


def today() -> date:
    """As `FromDay` and `ToDay` count."""
    return datetime.now(UTC).date()


def addressed(name: str, tenant: str | None) -> str:
    """As `model` of a completion says it."""
    return name if tenant is None else f"{tenant}/{name}"
