"""Settings of a replica among others; part of `Settings`."""

import re
from typing import Any

from pydantic import BaseModel, Field, SecretStr, field_validator

_ADDRESS = re.compile(r"rediss?://[^/?#\s]+(/\d*)?(\?\S*)?")


class FleetSettings(BaseModel):
    redis_url: SecretStr | None = Field(
        None,
        description="Redis through which replicas of one store agree, as"
        " redis[s]://[user][:password@]host[:port][/db] (URL); rediss may have the query"
        " ssl_ca_certs, ssl_certfile and ssl_keyfile. Without it one process owns the store.",
    )
    redis_key_prefix: str = Field(
        "repertoire:",
        max_length=128,
        pattern=r"^[A-Za-z0-9._:{}-]*$",
        description="What all keys in Redis begin with, the same for all replicas (text).",
    )

    @field_validator("redis_url", mode="before")
    @classmethod
    def _is_address(cls, value: Any) -> Any:
        """Said here, so that a wrong one stops the start before the base is loaded; without the
        value, which may hold a password."""
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text is not None and not (isinstance(text, str) and _ADDRESS.fullmatch(text)):
            raise ValueError("it is not redis[s]://[user][:password@]host[:port][/db]")
        return value
