"""What every answer has in common.

Fields that a newer server adds are kept, so that nothing is lost when a result is printed.
"""

from collections.abc import Mapping
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict

T = TypeVar("T")


class Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    @classmethod
    def of(cls, body: Any, headers: Mapping[str, str]) -> Self:  # noqa: ARG003
        return cls.model_validate(body)


class Page(Result, Generic[T]):
    data: tuple[T, ...]
    has_more: bool = False


class Reason(Result):
    """Why an upload cannot be served exactly."""

    code: str
    subject: str
    """The config field, tensor or file it is about."""
    message: str
