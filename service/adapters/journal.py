"""The journal of a store: one log per adapter, one record per operation."""

from service.adapters.backends.records import RecordLogs
from service.adapters.history import NameHistory
from service.adapters.operations import Operation, operation_from_json, operation_to_json
from service.errors import ConfigurationError
from service.tenancy import DEFAULT_TENANT, tenant_of

FOLDER = "journal"


class Journal:
    """Names are qualified. `journal/<name>` is a log of the tenant `default`,
    `journal/@<tenant>/<name>` one of another; no name begins with an `@`."""

    def __init__(self, logs: RecordLogs) -> None:
        self._logs = logs

    def names(self) -> list[str]:
        return sorted(map(name_of, self._logs.names(FOLDER)))

    def lengths(self) -> dict[str, int]:
        """Records of each name's log; reads none."""
        lengths = self._logs.lengths(FOLDER)
        return {name_of(log): length for log, length in lengths.items()}

    def replay(self, name: str, known: NameHistory | None = None) -> NameHistory:
        """What has become of it, or of what is `known` of it already."""
        start = known.num_operations if known else 0
        history = known.copy() if known else NameHistory()
        for number, record in enumerate(self._logs.read(f"{FOLDER}/{below(name)}", start), start):
            try:
                history.apply(operation_from_json(dict(record)))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                message = f"Record {number} in the journal of adapter {name!r} is damaged."
                raise ConfigurationError(message) from error
        return history

    def append(self, name: str, number: int, operation: Operation) -> None:
        """Raises FileExistsError when another writer was first; nothing has changed then."""
        self._logs.append(f"{FOLDER}/{below(name)}", number, operation_to_json(operation))


def name_of(log: str) -> str:
    """The qualified name whose log this is, by its name below `journal/`."""
    return log.removeprefix("@")


def below(name: str) -> str:
    """The other way round."""
    return name if tenant_of(name) == DEFAULT_TENANT else f"@{name}"
