"""Settings of whatever is read from and written to S3; part of `Settings`."""

from typing import Literal

from pydantic import BaseModel, Field


class S3Settings(BaseModel):
    s3_endpoint_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/?#@]+/?$",
        description="Server of s3:// where it is not AWS's own, e.g. http://minio:9000 (URL)."
        " Region and credentials come from AWS's variables and files, or the machine's role.",
    )
    s3_addressing_style: Literal["auto", "path", "virtual"] = Field(
        "auto",
        description="Where the bucket stands in a URL (name): path = after the host, virtual = in"
        " front of it; auto = as AWS's own tools do.",
    )
