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

    replica_id: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
        description="What this replica is called among others (text); by default host-port. No two"
        " that live may have the same.",
    )
    store_poll_s: float = Field(
        15.0,
        gt=0,
        le=3600,
        description="How often a replica compares what it knows with the store, in case that it"
        " was not told (seconds).",
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
