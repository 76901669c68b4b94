"""Bodies of `/v1/keys`."""

import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.access.keys import Key, Secret
from service.adapters.lifetime import MAX_TTL_S
from service.errors import InvalidRequest
from service.handlers.keys import WantedKey
from service.tenancy import MAX_PRIORITY, Role

_MAX_TIME = 1 << 40

Label = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class KeyBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    role: Role = Field(
        strict=False, description="Each role includes those before it: use, publish, admin."
    )
    tenant: str | None = Field(
        None, max_length=63, description="By default the caller's own; another needs an operator."
    )
    label: Label = Field("", description="For people: whose it is, what it is for.")
    expires_in_s: int | None = Field(
        None, ge=1, le=MAX_TTL_S, description="Seconds from now; by default it never expires."
    )
    expires_at: int | None = Field(None, ge=0, le=_MAX_TIME, description="Or Unix seconds.")
    min_priority: int | None = Field(
        None,
        ge=-MAX_PRIORITY,
        le=MAX_PRIORITY,
        description="The most urgent `priority` that it allows (lower is more urgent); by default"
        " as the caller's own.",
    )

    def to_wanted(self) -> WantedKey:
        if self.expires_in_s is not None and self.expires_at is not None:
            raise InvalidRequest("Send expires_in_s or expires_at, not both.", "expires_at")
        expires_at = self.expires_at
        if self.expires_in_s is not None:
            expires_at = int(time.time()) + self.expires_in_s
        return WantedKey(self.role, self.tenant, self.label, expires_at, self.min_priority)


class KeyInfo(BaseModel):
    object: Literal["key"] = "key"
    id: str = Field(description="Public: the second part of the secret.")
    tenant: str
    role: Role
    label: str
    ending: str = Field(description="Last characters of the secret.")
    created_at: int = Field(description="Unix seconds.")
    expires_at: int | None
    expired: bool
    min_priority: int

    @classmethod
    def of(cls, key: Key, *, is_expired: bool) -> "KeyInfo":
        return cls(**_fields(key), expired=is_expired)


class NewKey(KeyInfo):
    secret: str = Field(description="Shown this once; only a hash of it is kept.")

    @classmethod
    def of_secret(cls, key: Key, secret: Secret) -> "NewKey":
        return cls(**_fields(key), expired=False, secret=secret.text)


class KeyList(BaseModel):
    object: Literal["list"] = "list"
    data: list[KeyInfo]


class DeletedKey(BaseModel):
    object: Literal["key.deleted"] = "key.deleted"
    id: str
    deleted: Literal[True] = True


def _fields(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "role": key.role,
        "label": key.label,
        "ending": key.ending,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "min_priority": key.min_priority,
    }
