"""Bodies of `/v1/usage`."""

from dataclasses import asdict
from datetime import date
from typing import Literal

from pydantic import BaseModel, Field

from service.adapters.backends.usage import Usage
from service.handlers.usage import UsagePage, UsageRow


class UsageNumbers(BaseModel):
    requests: int = Field(description="Answers that were begun, whatever became of them.")
    errors: int = Field(description="Of the requests, those that ended with one.")
    prompt_tokens: int
    cached_tokens: int = Field(description="Of the prompt tokens, found in the prefix cache.")
    completion_tokens: int
    loaded_bytes: int = Field(
        description="Of adapters, brought into memory because of these requests."
    )

    @classmethod
    def of_usage(cls, usage: Usage) -> "UsageNumbers":
        return cls(**asdict(usage))


class UsageRecord(UsageNumbers):
    object: Literal["usage.record"] = "usage.record"
    id: str = Field(description="For `after`.")
    day: date | None = Field(description="In UTC; this and the next: null where not told apart.")
    tenant: str | None = Field(description="Whose requests they were.")
    adapter: str | None = Field(
        description="`tenant/name`, or `name` alone for those of operators and the base; `_sum` for"
        " weighted sums, `_other` for what came when a day had too many rows."
    )
    version: str | None = Field(description="Number of the version; empty for the base.")

    @classmethod
    def of(cls, row: UsageRow) -> "UsageRecord":
        return cls(
            id=row.id,
            day=row.day,
            tenant=row.tenant,
            adapter=row.adapter,
            version=row.version,
            **asdict(row.usage),
        )


class UsageReport(BaseModel):
    object: Literal["list"] = "list"
    data: list[UsageRecord]
    has_more: bool
    total: UsageNumbers = Field(description="Of all records, those of other pages included.")

    @classmethod
    def of(cls, page: UsagePage) -> "UsageReport":
        return cls(
            data=[UsageRecord.of(row) for row in page.rows],
            has_more=page.has_more,
            total=UsageNumbers.of_usage(page.total),
        )
