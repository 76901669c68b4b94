"""The tenants that are known now, and the log of each. What is in memory is pure."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from service.adapters.backends.records import Record, RecordLogs
from service.errors import ConfigurationError
from service.tenancy import DEFAULT_TENANT, TenantLimits

FOLDER = "tenants"


@dataclass(frozen=True, slots=True)
class Tenant:
    name: str
    created_at: int | None
    """Unix seconds; None for the operator's own, which was never created."""
    limits: TenantLimits | None = None
    """None = the server's defaults."""


class TenantBook:
    """`default` is always there."""

    def __init__(self) -> None:
        self._tenants = {DEFAULT_TENANT: Tenant(DEFAULT_TENANT, None)}
        self.lengths: dict[str, int] = {}
        """Records of each log whose outcome this is."""

    def put(self, name: str, state: "TenantState") -> None:
        self.lengths[name] = state.length
        if state.tenant is None:
            self._tenants.pop(name, None)
        else:
            self._tenants[name] = state.tenant

    def get(self, name: str) -> Tenant | None:
        return self._tenants.get(name)

    def names(self) -> list[str]:
        return sorted(self._tenants)

    def limits_of(self, tenant: str) -> TenantLimits | None:
        known = self._tenants.get(tenant)
        return None if known is None else known.limits


@dataclass(frozen=True, slots=True)
class TenantState:
    """What a log says."""

    tenant: Tenant | None = None
    """None: there never was such a tenant, or it is deleted."""
    length: int = 0


class TenantLog:
    """`tenants/<name>`: each record is all that holds from then on; the last one counts. Blocking.

    A name is never taken twice: grants, usage and audit entries of others speak of it.
    """

    def __init__(self, logs: RecordLogs) -> None:
        self._logs = logs

    def load(self) -> dict[str, TenantState]:
        """Of every name that ever was taken. Raises `ConfigurationError`."""
        return {name: self.read(name) for name in self._logs.names(FOLDER)}

    def read(self, name: str) -> TenantState:
        records = self._logs.read(f"{FOLDER}/{name}")
        if not records:
            return TenantState()
        try:
            return TenantState(_tenant(records[-1]), len(records))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"The record of the tenant {name!r} is damaged.") from error

    def put(self, name: str, decide: Callable[[TenantState], Tenant]) -> TenantState:
        """What `decide` makes of the tenant's state; it is asked again when another writer was
        first, and may raise: nothing has changed then."""
        while True:
            state = self.read(name)
            tenant = decide(state)
            if self._append(name, state.length, asdict(tenant)):
                return TenantState(tenant, state.length + 1)

    def delete(self, name: str, deleted_at: int) -> TenantState:
        """The same whoever of two is first."""
        while True:
            state = self.read(name)
            if state.tenant is None and state.length:
                return state
            if self._append(name, state.length, {"deleted_at": deleted_at}):
                return TenantState(None, state.length + 1)

    def _append(self, name: str, number: int, record: Record) -> bool:
        try:
            self._logs.append(f"{FOLDER}/{name}", number, record)
        except FileExistsError:
            return False
        return True


def _tenant(record: Record) -> Tenant | None:
    if "deleted_at" in record:
        return None
    limits = record["limits"]
    return Tenant(**{**record, "limits": None if limits is None else TenantLimits(**limits)})
