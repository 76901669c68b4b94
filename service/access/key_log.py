"""`keys/<id>` is the log of a key: what it is, then at most that it was revoked. Blocking."""

from dataclasses import asdict, replace

from service.access.keys import Key
from service.adapters.backends.records import Record, RecordLogs
from service.errors import ConfigurationError
from service.tenancy import Role

FOLDER = "keys"


class KeyLog:
    def __init__(self, logs: RecordLogs) -> None:
        self._logs = logs

    def load(self) -> list[Key]:
        """Every key there ever was. Raises `ConfigurationError`."""
        return [self.read(key_id) for key_id in self._logs.names(FOLDER)]

    def create(self, key: Key) -> None:
        self._logs.append(f"{FOLDER}/{key.id}", 0, asdict(key))

    def revoke(self, key: Key, revoked_at: int) -> Key:
        """The same whoever of two is first: what another has revoked stays so."""
        try:
            self._logs.append(f"{FOLDER}/{key.id}", 1, {"revoked_at": revoked_at})
        except FileExistsError:
            return self.read(key.id)
        return replace(key, revoked_at=revoked_at)

    def read(self, key_id: str) -> Key:
        """Raises `ConfigurationError` when it is damaged, or there is none."""
        records = self._logs.read(f"{FOLDER}/{key_id}")
        try:
            key = _key(records[0])
            return replace(key, revoked_at=records[1]["revoked_at"]) if records[1:] else key
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ConfigurationError(f"The record of the key {key_id!r} is damaged.") from error


def num_records(key: Key) -> int:
    """Of its log, when it is as it is known here."""
    return 1 if key.revoked_at is None else 2


def _key(record: Record) -> Key:
    return Key(**{**record, "role": Role(record["role"])})
