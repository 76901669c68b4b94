"""The flags of commands that run here, made from the settings, and what they come to."""

import argparse
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import ByteSize
from pydantic.fields import FieldInfo

from service.settings import ENV_PREFIX, Settings, resolve_settings

_CHECK_FLAGS = (
    "base_model", "revision", "served_model_name", "device", "dtype", "quantization", "threads",
    "max_lora_rank", "strict_base", "device_adapter_bytes", "host_adapter_bytes",
    "max_upload_bytes", "compile_timeout_s", "compile_memory_bytes", "log_level", "log_format",
)  # fmt: skip
"""Settings that decide whether an adapter is accepted, and how that is found out."""

_GC_FLAGS = (
    "adapters_store", "s3_endpoint_url", "s3_addressing_style", "cache_dir", "deleted_retention_s",
    "log_level", "log_format",
)  # fmt: skip

_REBUILD_FLAGS = (
    "adapters_store", "s3_endpoint_url", "s3_addressing_style", "cache_dir", "redis_url",
    "redis_key_prefix", "log_level", "log_format",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CheckArguments:
    settings: Settings
    source: Path
    """A PEFT folder, or an archive of one."""
    is_json: bool


@dataclass(frozen=True, slots=True)
class CollectArguments:
    settings: Settings
    is_dry_run: bool
    is_json: bool


@dataclass(frozen=True, slots=True)
class RebuildArguments:
    settings: Settings
    is_json: bool


Arguments = Settings | CheckArguments | CollectArguments | RebuildArguments


def add_flags(command: str, parser: ArgumentParser) -> None:
    add = {"serve": _add_serve, "check": _add_check, "gc": _add_gc, "rebuild": _add_rebuild}
    add[command](parser)


def settle(command: str, given: dict[str, Any]) -> Arguments:
    """What the flags come to; those that are not given come from the environment."""
    if command == "serve":
        return resolve_settings(given)
    if command == "gc":
        is_dry_run, is_json = given.pop("dry_run"), given.pop("json")
        return CollectArguments(_without_base(given), is_dry_run, is_json)
    if command == "rebuild":
        is_json = given.pop("json")
        return RebuildArguments(_without_base(given), is_json)
    source, is_json = given.pop("source"), given.pop("json")
    # The variables of a server may lie around here too, but nothing will listen.
    return CheckArguments(resolve_settings(given | {"host": "127.0.0.1"}), source, is_json)


def _without_base(given: dict[str, Any]) -> Settings:
    """Settings want a base, which has no part in what is done to a store alone."""
    return resolve_settings(given | {"host": "127.0.0.1", "base_model": "none"})


def _add_serve(serve: ArgumentParser) -> None:
    serve.description = (
        f"Every flag is also an environment variable: --max-num-seqs is {ENV_PREFIX}MAX_NUM_SEQS. "
        "Flags win."
    )
    for name, info in Settings.model_fields.items():
        _add_flag(serve, name, info)


def _add_check(check: ArgumentParser) -> None:
    check.description = (
        "Does what an upload does, without a server and without keeping anything. "
        "Exit status: 0 = accepted, 1 = refused, 2 = it could not be found out."
    )
    check.add_argument(
        "source", type=Path, metavar="FOLDER", help="PEFT folder, or a .zip or .tar.gz of one"
    )
    check.add_argument("--json", action="store_true", help="print one JSON object")
    for name in _CHECK_FLAGS:
        _add_flag(check, name, Settings.model_fields[name])


def _add_gc(gc: ArgumentParser) -> None:
    gc.description = (
        "Frees deleted versions that can no longer be restored, and whatever nothing needs, in a "
        "store that no server runs on. A server does it by itself."
    )
    gc.add_argument("--dry-run", action="store_true", help="only say what would be freed")
    gc.add_argument("--json", action="store_true", help="print one JSON object")
    for name in _GC_FLAGS:
        _add_flag(gc, name, Settings.model_fields[name])


def _add_rebuild(rebuild: ArgumentParser) -> None:
    rebuild.description = (
        "Copies what the store says of names, keys and tenants to Redis anew, and lets every "
        "replica look at it. Replicas may run meanwhile, and start without it: only slower."
    )
    rebuild.add_argument("--json", action="store_true", help="print one JSON object")
    for name in _REBUILD_FLAGS:
        _add_flag(rebuild, name, Settings.model_fields[name])


def _add_flag(parser: ArgumentParser, name: str, info: FieldInfo) -> None:
    flag = "--" + name.replace("_", "-")
    text = f"{info.description} {_default_of(info)}".replace("%", "%%")
    if info.annotation is bool:
        action: Any = argparse.BooleanOptionalAction
        parser.add_argument(flag, action=action, default=argparse.SUPPRESS, help=text)
    elif name == "api_key":
        parser.add_argument(
            flag, action="append", default=argparse.SUPPRESS, metavar="TEXT", help=text
        )
    else:
        choices = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
        metavar = "{" + ",".join(choices) + "}" if choices else "VALUE"
        parser.add_argument(flag, default=argparse.SUPPRESS, metavar=metavar, help=text)


def _default_of(info: FieldInfo) -> str:
    if info.is_required():
        return "[required]"
    if info.default in (None, ()):
        return "[default: not set]"
    if isinstance(info.default, tuple):
        return f"[default: {','.join(info.default)}]"
    is_size = isinstance(info.default, ByteSize)
    return f"[default: {info.default.human_readable() if is_size else info.default}]"
