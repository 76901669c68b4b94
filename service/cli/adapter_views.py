"""How adapters, their versions and what was found out about them look to people."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from service.cli.command import Output
from service.cli.render import facts, moment, short, size, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from service.client.results.adapters import (
        Adapter,
        AdapterVersion,
        Check,
        Conversion,
        DeletedVersion,
        Origin,
    )


def shown(adapter: "Adapter") -> Output:
    return Output(adapter, _details(adapter))


def listed(adapters: "list[Adapter]") -> "RenderableType":
    columns = ("NAME", "VERSION#", "KIND", "RANK#", "SIZE#", "TIER", "STATE", "ALIASES")
    return table(columns, map(_row, adapters))


def _row(adapter: "Adapter") -> tuple[object, ...]:
    now = adapter.current
    about = (now.version, now.kind, now.rank, size(now.bytes), now.tier) if now else (None,) * 5
    return adapter.name, *about, adapter.state, _aliases(adapter)


def _details(adapter: "Adapter") -> Iterator["RenderableType"]:
    now = adapter.current
    state = f"is at version {now.version}" if now else f"is {adapter.state}"
    yield f"{adapter.name} {state}"
    about = {
        "tenant": adapter.tenant,
        "visibility": _visibility(adapter),
        "aliases": _aliases(adapter),
        "pinned": _pinned(adapter),
        "expires": moment(adapter.expires_at) if adapter.expires_at else "",
        "etag": adapter.etag,
    }
    yield facts(about | (_current(now) if now else {}))
    yield from (f"  {one.code} ({one.subject}): {one.message}" for one in adapter.reasons)
    if adapter.versions:
        yield _versions(adapter.versions)
    if adapter.deleted:
        yield _deleted(adapter.deleted)


def _current(version: "AdapterVersion") -> dict[str, object]:
    return {
        "digest": version.digest,
        "kind": version.kind,
        "targets": version.targets,
        "check": checked(version.check),
        "conversion": converted(version.conversion),
        "origin": fetched_from(version.origin),
        "warnings": version.warnings,
    }


def _versions(versions: "tuple[AdapterVersion, ...]") -> "RenderableType":
    columns = ("VERSION#", "", "DIGEST", "CREATED", "KIND", "RANK#", "SIZE#", "TIER", "FORM")
    rows = (
        (
            one.version,
            "current" if one.current else " ",
            short(one.digest),
            moment(one.created_at),
            one.kind,
            one.rank,
            size(one.bytes),
            one.tier,
            one.form,
        )
        for one in versions
    )
    return table(columns, rows)


def _deleted(versions: "tuple[DeletedVersion, ...]") -> "RenderableType":
    columns = ("DELETED#", "DIGEST", "AT", "RECOVERABLE UNTIL", "KIND", "SIZE#")
    rows = (
        (
            one.version,
            short(one.digest),
            moment(one.deleted_at),
            moment(one.recoverable_until),
            one.kind,
            size(one.bytes),
        )
        for one in versions
    )
    return table(columns, rows)


def checked(check: "Check | None") -> str:
    if check is None:
        return ""
    largest = check.max_logit_difference
    shown = "not a number" if largest is None else f"{largest:.2g}"
    return (
        f"{check.verdict}, logits differ by {shown} where {check.tolerance:.2g} is allowed "
        f"({check.dtype}, {check.positions} positions)"
    )


def converted(conversion: "Conversion | None") -> str:
    if conversion is None:
        return ""
    return (
        f"of {conversion.kind} to rank {conversion.rank}: largest error of a module "
        f"{conversion.max_error:.2g}, mean KL {conversion.mean_kl:.2g}"
    )


def fetched_from(origin: "Origin | None") -> str:
    if origin is None:
        return ""
    revision = f" at {origin.revision}" if origin.revision else ""
    return f"{origin.source}{revision}, {moment(origin.fetched_at)}"


def _pinned(adapter: "Adapter") -> str:
    if adapter.pin_over_limit:
        return "yes, but not held: pinned names have grown beyond what they may take"
    return "yes" if adapter.pinned else ""


def _visibility(adapter: "Adapter") -> str:
    if adapter.visibility is None or isinstance(adapter.visibility, str):
        return adapter.visibility or ""
    return f"shared with {', '.join(adapter.visibility.tenants)}"


def _aliases(adapter: "Adapter") -> str:
    return ", ".join(f"{alias}={_shares(target)}" for alias, target in adapter.aliases.items())


def _shares(target: Any) -> str:
    if isinstance(target, Mapping):
        return "/".join(f"{number}:{weight}" for number, weight in target.items())
    return str(target)
