"""Parameters that several routes take, with examples that are real on the demo."""

from typing import Annotated

from fastapi import Path

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
ModelPath = Annotated[
    str,
    Path(
        description="The base, or an adapter as in `model` of a completion.",
        examples=["date-iso", "date-iso@1"],
    ),
]
