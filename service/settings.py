"""Every setting of the service: an environment variable, a flag and a default, resolved once.

Precedence: flag, then `REPERTOIRE_…`, then the default. Knows no HTTP.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    ByteSize,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.base import Quantization
from service.errors import ConfigurationError
from service.fleet_settings import FleetSettings
from service.s3_settings import S3Settings
from service.source_settings import SourceSettings
from service.store_location import BucketLocation, FolderLocation, parse_location
from service.tenancy import TenantLimits

ENV_PREFIX = "REPERTOIRE_"

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1")
_SERVICE_LINK = re.compile(ENV_PREFIX + "(PORT|SERVICE)_")
"""Kubernetes sets these in every pod beside a service that is called `repertoire`."""

CLIENT_VARIABLES = frozenset({f"{ENV_PREFIX}CLIENT_URL", f"{ENV_PREFIX}CLIENT_KEY"})
"""What the client and the commands of operators read; no settings of a server."""

_GIB = 1 << 30

StoreSetting = Annotated[FolderLocation | BucketLocation, NoDecode]


def _bytes(default: int | None, description: str) -> Any:
    text = f"{description} Bytes, e.g. 512MB or 4GiB."
    return Field(None if default is None else ByteSize(default), gt=0, description=text)


class Settings(SourceSettings, S3Settings, FleetSettings, BaseSettings):
    """Frozen: whoever needs another value builds another `Settings`."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        env_ignore_empty=True,
        validate_default=True,
    )

    base_model: str = Field(
        min_length=1, description="Frozen base model: path of a folder, or hub id."
    )
    revision: str | None = Field(
        None, description="Revision of a hub id: branch, tag or commit name."
    )
    served_model_name: str | None = Field(
        None,
        min_length=1,
        description="Name under which clients ask for the base; by default the last path part.",
    )
    adapters_store: StoreSetting = Field(
        FolderLocation(Path("adapters_store")),
        description="What keeps the adapters: a folder or s3://bucket/prefix (path or URL).",
    )
    cache_dir: Path = Field(
        Path("~/.cache/repertoire"),
        description="Folder of rebuildable files: compiled adapters, kernels (path).",
    )
    host: str = Field("127.0.0.1", description="Address to listen on (name or IP).")
    port: int = Field(
        8000,
        ge=0,
        le=65535,
        validation_alias=AliasChoices(ENV_PREFIX + "PORT", "PORT"),
        description="TCP port to listen on (number); 0 = any free one.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the model runs (name); auto = a GPU if there is one."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Number format of the run (name); auto = what the machine is fast in."
    )
    quantization: Quantization = Field(
        "none",
        description="Bits of the base's linear modules (name): nf4 and fp4 = 4, int8 = 8; a base"
        " that is stored so is loaded so.",
    )
    native_kernels: bool = Field(
        True,
        description="Compile the C++ kernels for this processor and use them, where there is a"
        " compiler; on a GPU use Triton's and capture decode steps as graphs (switch).",
    )
    packed_weights: bool = Field(
        True,
        description="On a processor, keep linear weights of the base in the layout that it"
        " multiplies fastest (switch).",
    )
    threads: int | None = Field(
        None,
        gt=0,
        description="Compute threads (count); by default one per physical core, as far as the"
        " container may use them.",
    )
    max_model_len: int | None = Field(
        None, gt=0, description="Context length (tokens); by default the model's own."
    )
    max_num_seqs: int = Field(64, gt=0, description="Sequences that run at once (count).")
    max_num_batched_tokens: int = Field(
        512, gt=0, description="Rows of a step while nothing decodes (tokens)."
    )
    max_mixed_prefill_tokens: int | None = Field(
        None,
        gt=0,
        description="Prompt rows of a step while something decodes, fewer far into a long prompt,"
        " where a row costs more (tokens); by default as many as let a step take three times as"
        " long as without them, which is measured.",
    )
    max_lora_rank: int = Field(
        256, gt=0, description="Largest adapter rank that is accepted (number)."
    )
    scheduling_policy: Literal["fair", "fcfs"] = Field(
        "fair",
        description="Who starts next (name): fair = whoever has had least, between tenants and"
        " between the adapters of each; fcfs = whoever came first.",
    )
    generated_token_weight: float = Field(
        2.0,
        ge=0,
        le=1000,
        description="What a generated token counts in fair shares beside one of a prompt (count).",
    )
    block_size: int = Field(16, gt=0, description="Size of one KV block (tokens).")
    kv_bytes: ByteSize | None = _bytes(None, "KV store; by default from free memory.")
    prefix_cache: bool = Field(
        True, description="Compute the common beginning of prompts only once (switch)."
    )
    gpu_memory_utilization: float = Field(
        0.9, gt=0, le=1, description="Share of GPU memory that the service may use (fraction)."
    )
    device_adapter_bytes: ByteSize | None = _bytes(
        None, "Adapters on the device; by default from free memory."
    )
    host_adapter_bytes: ByteSize = _bytes(2 * _GIB, "Adapters in host memory.")
    eviction_policy: Literal["lru", "gdsf"] = Field(
        "lru",
        description="Which adapter leaves a full memory (name): lru = the least recently used;"
        " gdsf = the one that is least worth its bytes by use and load time.",
    )
    pinned_adapter_fraction: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="Share of the host memory of adapters that pinned ones may take (fraction);"
        " those of a tenant other than `default` at most half of it.",
    )
    disk_adapter_bytes: ByteSize = _bytes(20 * _GIB, "Compiled adapters in the cache folder.")
    store_bytes: ByteSize = _bytes(100 * _GIB, "Uploaded adapters in the store.")
    deleted_retention_s: float = Field(
        7 * 24 * 3600.0,
        ge=0,
        le=10 * 365 * 24 * 3600.0,
        description="How long what is deleted can be restored (seconds); 0 = not at all.",
    )
    max_upload_bytes: ByteSize = _bytes(2 * _GIB, "One upload, packed and unpacked.")
    max_open_uploads: int = Field(
        8, ge=1, le=1000, description="Uploads that a tenant may have open at once (count)."
    )
    max_body_bytes: ByteSize = _bytes(16 << 20, "Body of any other request.")
    compile_timeout_s: float = Field(
        120.0, gt=0, description="Limit for checking and compiling one upload (seconds)."
    )
    compile_memory_bytes: ByteSize = _bytes(
        4 * _GIB, "Memory of the process that checks an upload, beside the mapped base."
    )
    cold_load_timeout_s: float = Field(
        60.0, gt=0, description="Limit for bringing an adapter into memory (seconds)."
    )
    max_waiting: int = Field(
        1024, gt=0, description="Sequences that may wait for the engine (count)."
    )
    max_connections: int = Field(
        1024, gt=0, description="Connections that may be open at once (count); more get a 503."
    )
    max_header_bytes: ByteSize = _bytes(32 << 10, "Headers of one request.")
    header_timeout_s: float = Field(
        20.0, gt=0, description="Within which the headers of a request must arrive (seconds)."
    )
    body_timeout_s: float = Field(
        60.0,
        gt=0,
        description="Longest pause within a body, and how long it may take beside one second for"
        " each KiB (seconds).",
    )
    write_timeout_s: float = Field(
        60.0,
        gt=0,
        description="How long a client may leave its answer unread before it is given up"
        " (seconds).",
    )
    keep_alive_s: int = Field(
        75,
        gt=0,
        description="How long an idle connection stays open (seconds); longer than the 60 of usual"
        " balancers, which reuse connections.",
    )
    drain_delay_s: float | None = Field(
        None,
        ge=0,
        description="How long new requests are still served after SIGTERM, when /ready is red"
        " already: until balancers have noticed (seconds); by default 5, on a loopback address 0.",
    )
    drain_timeout_s: float = Field(
        60.0,
        ge=0,
        description="How long running requests may take after that; then they end with an error"
        " (seconds).",
    )
    api_key: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Key that clients must send (text); repeatable, in the variable with commas.",
    )
    api_key_file: Path | None = Field(
        None, description="File with one key per line; blank lines and # lines are skipped (path)."
    )
    allow_unauthenticated: bool = Field(
        False, description="Listen beyond this machine without any key (switch)."
    )
    strict_base: bool = Field(
        False, description="Refuse adapters that name another base or revision (switch)."
    )
    verify_uploads: bool = Field(
        True,
        description="Run every upload on the live engine and compare it with peft before it is"
        " published (switch).",
    )
    warm_compiler: bool = Field(
        True,
        description="Start the process that reads adapters other than plain LoRA with the server,"
        " not at the first of them (switch).",
    )
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="TCP port that serves /metrics without a key (number); by default the main"
        " port does, for operators.",
    )
    metrics_host: str = Field("127.0.0.1", description="Address of the metrics port (name or IP).")
    metrics_max_adapters: int = Field(
        100,
        ge=1,
        le=10_000,
        description="Combinations of adapter, version and tenant with metrics of their own (count);"
        " all others share the label _other. Also the names in each metric that routers read.",
    )
    tenant_requests_per_minute: int | None = Field(
        None,
        gt=0,
        description="Completions that a tenant without limits of its own may begin in any minute"
        " (count).",
    )
    tenant_tokens_per_minute: int | None = Field(
        None, gt=0, description="Prompt and completion tokens of those (tokens)."
    )
    tenant_max_concurrent_requests: int | None = Field(
        None, gt=0, description="Completions that such a tenant may have open at once (count)."
    )
    tenant_max_adapters: int | None = Field(
        None, ge=0, description="Adapters that such a tenant may keep (count)."
    )
    tenant_max_adapter_bytes: ByteSize | None = _bytes(
        None, "Content of the adapters that such a tenant may keep."
    )
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+",
        description="OpenTelemetry collector that is sent traces over HTTP, e.g."
        " http://collector:4318 (URL); the standard OTEL_ variables say the rest.",
    )
    usage_flush_s: float = Field(
        10.0,
        gt=0,
        description="How often usage is written down; a crash loses what came since (seconds).",
    )
    example_model: str | None = Field(
        None, description="Model in the curl line shown when ready (name); the base by default."
    )
    example_prompt: str = Field(
        "Hello", description="Prompt in the curl line shown when ready (text)."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe messages that are logged (name)."
    )
    log_format: Literal["console", "json"] = Field(
        "console", description="Shape of a log line (name)."
    )

    @field_validator("port", "metrics_port", mode="before")
    @classmethod
    def _ignore_service_link(cls, value: object, info: ValidationInfo) -> object:
        """Kubernetes sets REPERTOIRE_PORT=tcp://… in every pod beside a service `repertoire`."""
        is_link = isinstance(value, str) and value.startswith("tcp://")
        return cls.model_fields[str(info.field_name)].default if is_link else value

    @field_validator("api_key", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        return tuple(key.strip() for key in value.split(",")) if isinstance(value, str) else value

    @field_validator("api_key")
    @classmethod
    def _no_blank_key(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(not key.get_secret_value().strip() for key in keys):
            raise ValueError("a key must not be blank")
        return keys

    @field_validator("adapters_store", mode="before")
    @classmethod
    def _parse_location(cls, value: object) -> object:
        is_text = isinstance(value, str | Path | FolderLocation)
        return parse_location(str(value)) if is_text else value

    @field_validator("cache_dir", "api_key_file")
    @classmethod
    def _make_absolute(cls, value: Path | None) -> Path | None:
        """Child processes work in folders of their own."""
        return value and value.expanduser().absolute()

    @model_validator(mode="after")
    def _closed_by_default(self) -> Self:
        if not (self.has_keys or self.allow_unauthenticated or self.is_loopback):
            raise ValueError(
                f"host {self.host} can be reached from other machines: "
                "set --api-key, or --allow-unauthenticated to serve anyone"
            )
        return self

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.metrics_port == self.port:
            raise ValueError("--metrics-port: must differ from --port")
        return self

    @property
    def is_loopback(self) -> bool:
        return _LOOPBACK.fullmatch(self.host) is not None

    @property
    def drain_delay(self) -> float:
        if self.drain_delay_s is not None:
            return self.drain_delay_s
        return 0.0 if self.is_loopback else 5.0

    @property
    def has_keys(self) -> bool:
        return bool(self.api_key or self.api_key_file)

    @property
    def tenant_limits(self) -> TenantLimits:
        """Of a tenant that has none of its own."""
        return TenantLimits(
            requests_per_minute=self.tenant_requests_per_minute,
            tokens_per_minute=self.tenant_tokens_per_minute,
            max_concurrent_requests=self.tenant_max_concurrent_requests,
            max_adapters=self.tenant_max_adapters,
            max_adapter_bytes=self.tenant_max_adapter_bytes,
        )

    @property
    def model_name(self) -> str:
        """Name under which the base is served; never a path of this machine."""
        return self.served_model_name or Path(self.base_model).resolve().name

    def api_keys(self) -> tuple[str, ...]:
        """All accepted keys, those of the file included.

        Raises `ConfigurationError` when the file cannot be read or holds no key.
        """
        return tuple(key.get_secret_value() for key in self.api_key) + self._keys_of_file()

    def _keys_of_file(self) -> tuple[str, ...]:
        if self.api_key_file is None:
            return ()
        try:
            lines = self.api_key_file.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"--api-key-file: {self.api_key_file} cannot be read"
            ) from error
        keys = tuple(line.strip() for line in lines if line.strip() and line.strip()[0] != "#")
        if not keys:
            raise ConfigurationError(f"--api-key-file: {self.api_key_file} holds no key")
        return keys


def resolve_settings(given: Mapping[str, Any]) -> Settings:
    """`given` values first, then the environment, then the defaults."""
    try:
        return Settings(**given)
    except ValidationError as error:
        raise ConfigurationError(_sentence(error)) from None


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Variables that look like settings and are none, so that a typing error does not pass."""
    known = CLIENT_VARIABLES | {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    return sorted(
        name
        for name in environment
        if name.startswith(ENV_PREFIX) and name not in known and not _SERVICE_LINK.match(name)
    )


def _sentence(error: ValidationError) -> str:
    """The first thing that is wrong, without the value: it may be a key."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    name = str(first["loc"][0]).lower().removeprefix(ENV_PREFIX.lower())
    return f"--{name.replace('_', '-')}: {message[0].lower()}{message[1:]}"
