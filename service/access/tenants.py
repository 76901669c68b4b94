"""The tenants that are known now, and the log of each. What is in memory is pure."""

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

    def put(self, tenant: Tenant) -> None:
        self._tenants[tenant.name] = tenant

    def remove(self, name: str) -> None:
        self._tenants.pop(name, None)

    def get(self, name: str) -> Tenant | None:
        return self._tenants.get(name)

    def names(self) -> list[str]:
        return sorted(self._tenants)

    def limits_of(self, tenant: str) -> TenantLimits | None:
        known = self._tenants.get(tenant)
        return None if known is None else known.limits


class TenantLog:
    """`tenants/<name>`: each record is all that holds from then on; the last one counts. Blocking.

    A name is never taken twice: grants, usage and audit entries of others speak of it.
    """

    def __init__(self, logs: RecordLogs) -> None:
        self._logs = logs

    def load(self) -> list[Tenant]:
        """Those that are not deleted. Raises `ConfigurationError`."""
        tenants = (self._read(name) for name in self._logs.names(FOLDER))
        return [tenant for tenant in tenants if tenant is not None]

    def is_former(self, name: str) -> bool:
        """Whether there was such a tenant, and it was deleted."""
        records = self._logs.read(f"{FOLDER}/{name}")
        return bool(records) and "deleted_at" in records[-1]

    def put(self, tenant: Tenant) -> None:
        self._append(tenant.name, asdict(tenant))

    def delete(self, name: str, deleted_at: int) -> None:
        self._append(name, {"deleted_at": deleted_at})

    def _append(self, name: str, record: Record) -> None:
        log = f"{FOLDER}/{name}"
        number = len(self._logs.read(log))
        while True:
            try:
                self._logs.append(log, number, record)
                return
            except FileExistsError:
                number += 1

    def _read(self, name: str) -> Tenant | None:
        records = self._logs.read(f"{FOLDER}/{name}")
        try:
            return _tenant(records[-1])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ConfigurationError(f"The record of the tenant {name!r} is damaged.") from error


def _tenant(record: Record) -> Tenant | None:
    if "deleted_at" in record:
        return None
    limits = record["limits"]
    return Tenant(**{**record, "limits": None if limits is None else TenantLimits(**limits)})
