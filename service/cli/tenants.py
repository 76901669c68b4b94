"""`tenants …`: who shares the server, and how much each may ask of it."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from service.cli.command import Command, Output
from service.cli.render import facts, moment, table

if TYPE_CHECKING:
    from service.client import Client
    from service.client.results.access import Limits, TenantInfo

_LIMITS = {
    "requests_per_minute": "completions begun in any minute (count)",
    "tokens_per_minute": "prompt and completion tokens of those (tokens)",
    "max_concurrent_requests": "completions open at once (count)",
    "max_adapters": "adapters kept (count)",
    "max_adapter_bytes": "content of those (bytes)",
}


def _create(client: "Client", options: Namespace) -> Output:
    return _shown(client.tenants.create(options.name, limits=_limits(options)))


def _list(client: "Client", _: Namespace) -> Output:
    tenants = list(client.tenants.list())
    columns = ("NAME", "CREATED", "LIMITS")
    rows = ((one.name, moment(one.created_at), _described(one.limits)) for one in tenants)
    return Output(tenants, [table(columns, rows)])


def _show(client: "Client", options: Namespace) -> Output:
    return _shown(client.tenants.get(options.name))


def _set_limits(client: "Client", options: Namespace) -> Output:
    return _shown(client.tenants.set_limits(options.name, _limits(options)))


def _remove(client: "Client", options: Namespace) -> Output:
    gone = client.tenants.delete(options.name)
    return Output(gone, [f"{gone.name} is deleted, with its keys"])


def _shown(tenant: "TenantInfo") -> Output:
    about = {"created": moment(tenant.created_at), "limits": _described(tenant.limits)}
    return Output(tenant, [tenant.name, facts(about)])


def _described(limits: "Limits | None") -> str:
    if limits is None:
        return "the server's defaults"
    named = {name: getattr(limits, name) for name in _LIMITS}
    given = [f"{name}={one}" for name, one in named.items() if one is not None]
    return ", ".join(given) or "unlimited"


def _limits(options: Namespace) -> "Limits | None":
    """None when no flag is given."""
    from service.client.results.access import Limits

    given = {name: getattr(options, name) for name in _LIMITS}
    is_given = options.unlimited or any(one is not None for one in given.values())
    return Limits(**given) if is_given else None


def _add_limits(parser: ArgumentParser) -> None:
    parser.add_argument("name")
    limits = parser.add_argument_group(
        "limits", "without any, those of the server's settings; else what is not named is unlimited"
    )
    for name, text in _LIMITS.items():
        limits.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="NUMBER", help=text)
    limits.add_argument("--unlimited", action="store_true", help="without any of these")


def _add_name(parser: ArgumentParser) -> None:
    parser.add_argument("name")


COMMANDS = (
    Command("create", "make a tenant", _create, _add_limits),
    Command("list", "all tenants", _list),
    Command("show", "one tenant", _show, _add_name),
    Command("limits", "set a tenant's limits, in place of all it had", _set_limits, _add_limits),
    Command("rm", "delete a tenant that owns no adapters, with its keys", _remove, _add_name),
)
