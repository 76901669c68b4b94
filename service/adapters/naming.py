"""The grammar of adapter names and of what may follow the `@`."""

import re
from dataclasses import dataclass

from service.tenancy import DEFAULT_TENANT, is_valid_tenant

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_NUMBER = re.compile(r"[0-9]{1,18}")
_DIGEST = re.compile(r"sha256:([0-9a-f]{8,64})")
_ALIAS = re.compile(r"[a-z][a-z0-9._-]{0,63}")

ALIAS_RULE = (
    "1 to 64 characters: lower-case letters, digits, '.', '_' and '-', beginning with a letter"
)
NAME_RULE = (
    "1 to 128 characters: letters, digits, '.', '_' and '-', beginning with a letter or a digit"
)


@dataclass(frozen=True, slots=True)
class Selector:
    """What a request's `model` asks for; at most one of the three is set, none means current."""

    name: str
    number: int | None = None
    digest_prefix: str | None = None
    alias: str | None = None


def written_digest(digest: str) -> str:
    """As `parse_selector` reads it."""
    return f"sha256:{digest}"


def is_valid_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def is_valid_qualified(name: str) -> bool:
    """Bare for the tenant `default`, `tenant/name` for every other."""
    tenant, slash, bare = name.partition("/")
    if not slash:
        return is_valid_name(name)
    return is_valid_tenant(tenant) and tenant != DEFAULT_TENANT and is_valid_name(bare)


def is_valid_alias(alias: str) -> bool:
    return _ALIAS.fullmatch(alias) is not None


def parse_selector(text: str) -> Selector | None:
    """None when `text` can be no adapter at all."""
    name, at, suffix = text.partition("@")
    if not is_valid_qualified(name):
        return None
    if not at:
        return Selector(name)
    if _NUMBER.fullmatch(suffix):
        return Selector(name, number=int(suffix))
    if match := _DIGEST.fullmatch(suffix):
        return Selector(name, digest_prefix=match[1])
    if _ALIAS.fullmatch(suffix):
        return Selector(name, alias=suffix)
    return None
