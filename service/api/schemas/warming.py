"""Bodies of `POST /v1/adapters/{name}/warm`."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.adapters.naming import written_digest
from service.api.schemas.sampling import MAX_COLD_MS
from service.core import MemoryTier
from service.handlers.warming import Warmed
from service.tenancy import bare_name


class WarmBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    tier: MemoryTier = Field("host", description="Host memory, or the device's.")
    timeout_ms: int | None = Field(
        None,
        ge=0,
        le=MAX_COLD_MS,
        description="How long to wait for it (milliseconds); the load goes on beyond it. "
        "By default, and at most, as long as the server lets requests wait.",
    )

    @property
    def timeout_s(self) -> float | None:
        return None if self.timeout_ms is None else self.timeout_ms / 1000


class WarmedAdapter(BaseModel):
    object: Literal["adapter.warmed"] = "adapter.warmed"
    name: str
    version: int
    digest: str
    tier: Literal["host", "device"] = Field(description="Where it is now.")
    milliseconds: float = Field(description="That it took; about nothing if it was there.")

    @classmethod
    def of(cls, warmed: Warmed) -> "WarmedAdapter":
        return cls(
            name=bare_name(warmed.ref.name),
            version=warmed.ref.version,
            digest=written_digest(warmed.ref.digest),
            tier="device" if warmed.tier == "device" else "host",
            milliseconds=round(1000 * warmed.seconds, 3),
        )
