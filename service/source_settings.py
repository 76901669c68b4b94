"""Settings of what adapters may be fetched from; part of `Settings`. Nothing may be by default."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ByteSize, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

Names = Annotated[tuple[str, ...], NoDecode]
Network = IPv4Network | IPv6Network

_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?|\[[0-9a-f:.]+\](:\d{1,5})?")
_REPOSITORY = re.compile(r"\*|[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s,]*)?")
_TOKEN = re.compile(r"[^\s=,]+=[\x21-\x7e]+")


class SourceSettings(BaseModel):
    source_hosts: Names = Field(
        (),
        description="Hosts that https:// sources may lead to, as host[:port], *.domain is all below"
        " it (name), with commas; none = no such source.",
    )
    source_tokens: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Bearer tokens of such hosts, as host[:port]=token (text), with commas; better"
        " set in the variable.",
    )
    source_hub_repos: Names = Field(
        (),
        description="What hf:// sources may name, as organisation, organisation/repository or *"
        " (name), with commas; none = no such source.",
    )
    source_hub_endpoint: str | None = Field(
        None,
        pattern=r"^https://[^\s/?#@]+/?$",
        description="Hub of those (URL); by default HF_ENDPOINT, or https://huggingface.co.",
    )
    source_hub_token: SecretStr | None = Field(
        None,
        description="Token for that hub (text); HF_TOKEN, which fetches the base, is never used.",
    )
    source_hub_hosts: Names = Field(
        ("*.hf.co", "*.huggingface.co"),
        description="Hosts beside the hub itself that it may send on to (name), with commas.",
    )
    source_buckets: Names = Field(
        (),
        description="What s3:// sources may name, as bucket or bucket/prefix (name), with commas;"
        " none = no such source.",
    )
    source_s3_endpoint_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/?#@]+/?$",
        description="Server of s3:// sources (URL); by default that of --s3-endpoint-url.",
    )
    source_s3_profile: str | None = Field(
        None,
        min_length=1,
        description="Profile in AWS's files that reads s3:// sources (name); by default the store's"
        " own credentials do.",
    )
    source_root: Path | None = Field(
        None,
        description="Folder below which sources may be paths of this machine (path); by default"
        " none may.",
    )
    source_networks: Annotated[tuple[Network, ...], NoDecode] = Field(
        (),
        description="Networks that are not public and may be fetched from all the same, e.g."
        " 10.1.0.0/16 (name), with commas.",
    )
    source_timeout_s: float = Field(
        3600.0, gt=0, description="Limit for fetching one adapter (seconds)."
    )
    source_bytes_per_second: ByteSize | None = Field(
        None, gt=0, description="Most that one fetch reads. Bytes, e.g. 50MB; by default any."
    )
    max_source_fetches: int = Field(
        8, ge=1, le=1000, description="Adapters that are fetched at once (count); others wait."
    )
    max_tenant_source_fetches: int = Field(
        2, ge=1, le=1000, description="The same of one tenant (count)."
    )
    import_kept_s: float = Field(
        24 * 3600.0,
        gt=0,
        le=30 * 24 * 3600.0,
        description="How long one can ask what has become of an import (seconds).",
    )

    @field_validator(
        "source_hosts",
        "source_tokens",
        "source_hub_repos",
        "source_hub_hosts",
        "source_buckets",
        mode="before",
    )
    @classmethod
    def _split_names(cls, value: Any) -> Any:
        return _split(value)

    @field_validator("source_networks", mode="before")
    @classmethod
    def _parse_networks(cls, value: Any) -> Any:
        return tuple(ip_network(one) for one in _split(value))

    @field_validator("source_hosts", "source_hub_hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _all(tuple(one.lower() for one in value), _HOST, "is not host[:port] or *.domain")

    @field_validator("source_hub_repos")
    @classmethod
    def _are_repositories(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _all(value, _REPOSITORY, "is not organisation, organisation/repository or *")

    @field_validator("source_buckets")
    @classmethod
    def _are_buckets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _all(value, _BUCKET, "is not bucket or bucket/prefix")

    @field_validator("source_tokens")
    @classmethod
    def _are_tokens(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not all(_TOKEN.fullmatch(one.get_secret_value()) for one in value):
            raise ValueError("it is not host[:port]=token")
        return value

    @field_validator("source_root")
    @classmethod
    def _is_absolute(cls, value: Path | None) -> Path | None:
        return value and value.expanduser().absolute()


def _split(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(one.strip() for one in value.split(",") if one.strip())


def _all(values: tuple[str, ...], pattern: re.Pattern[str], problem: str) -> tuple[str, ...]:
    for one in values:
        if not pattern.fullmatch(one):
            raise ValueError(f"{one!r} {problem}")
    return values
