"""Bodies of `/v1/residency`."""

from typing import Literal

from pydantic import BaseModel, Field

from service.adapters.naming import written_digest
from service.core import TierStats
from service.handlers.residency import (
    PLACES,
    Place,
    Queue,
    ReplicaView,
    ResidencyPage,
    ResidentVersion,
)


class ResidentAdapter(BaseModel):
    object: Literal["residency.adapter"] = "residency.adapter"
    id: str = Field(description="For `after`.", examples=["date-iso@1", "team-a/dates@3"])
    name: str = Field(description="`tenant/name`, or `name` alone for those of operators.")
    version: int
    digest: str = Field(description="`sha256:` and the digest of the content.")
    models: list[str] = Field(
        description="What `model` may say to get it: the name if it is current, aliases that lead"
        " to it (with weights, for the largest share), and its number.",
        examples=[["date-iso", "date-iso@stable", "date-iso@1"]],
    )
    tier: Place = Field(description="The fastest that has it.")
    running: int = Field(description="Sequences in the batch; of a tenant, its own.")
    waiting: int = Field(description="Sequences that wait for it or for their turn; likewise.")
    pinned: bool = Field(description="Whether it stays in host memory.")
    rank: int = Field(description="Highest rank of any module; 0 where its kind has none.")
    bytes: int = Field(description="In memory.")

    @classmethod
    def of(cls, row: ResidentVersion) -> "ResidentAdapter":
        ref = row.ref
        return cls(
            id=f"{ref.name}@{ref.version}",
            name=ref.name,
            version=ref.version,
            digest=written_digest(ref.digest),
            models=list(row.models),
            tier=row.tier,
            running=row.num_running,
            waiting=row.num_waiting,
            pinned=row.is_pinned,
            rank=ref.rank,
            bytes=ref.compiled_bytes,
        )


class QueueDepth(BaseModel):
    running: int = Field(description="Sequences in the batch.")
    waiting: int = Field(description="Sequences that wait for their turn.")
    cold: int = Field(description="Sequences that wait for their adapter.")

    @classmethod
    def of(cls, queue: Queue) -> "QueueDepth":
        return cls(running=queue.num_running, waiting=queue.num_waiting, cold=queue.num_cold)


class TierRoom(BaseModel):
    adapters: int = Field(
        description="Sums and what lost its name in use included, and in `host` what is on its way."
    )
    bytes: int = Field(description="That they take.")
    budget_bytes: int

    @classmethod
    def of(cls, stats: TierStats) -> "TierRoom":
        return cls(
            adapters=stats.num_adapters, bytes=stats.num_bytes, budget_bytes=stats.budget_bytes
        )


class Tiers(BaseModel):
    device: TierRoom
    host: TierRoom
    disk: TierRoom

    @classmethod
    def of(cls, view: ReplicaView) -> "Tiers":
        return cls(**{place: TierRoom.of(view.tiers[place]) for place in PLACES})


class Residency(BaseModel):
    object: Literal["residency"] = "residency"
    replica: str | None = Field(description="Which one answers; this and the next for operators.")
    generation: str | None = Field(
        description="Another one whenever anything of `data` but `running` and `waiting` changes."
    )
    tiers: Tiers | None = None
    max_device_adapters: int | None = Field(
        description="How many can be on the device at once: those that are, and as many more as"
        " fit at the mean size of all adapters."
    )
    queue: QueueDepth = Field(description="For a tenant, of its own sequences.")
    data: list[ResidentAdapter] = Field(description="By name and version.")
    has_more: bool

    @classmethod
    def of(cls, page: ResidencyPage) -> "Residency":
        view = page.replica
        return cls(
            replica=view.name if view else None,
            generation=view.generation if view else None,
            tiers=Tiers.of(view) if view else None,
            max_device_adapters=view.max_on_device if view else None,
            queue=QueueDepth.of(page.queue),
            data=[ResidentAdapter.of(row) for row in page.rows],
            has_more=page.has_more,
        )
