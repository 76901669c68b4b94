"""Which store this is, wherever it lies and by whatever path it is reached."""

import contextlib
import uuid

from service.adapters.backends.records import RecordLogs
from service.errors import ConfigurationError

_LOG = "identity"


def store_identity(logs: RecordLogs) -> str:
    """Drawn by whoever first asks, of all replicas that do; the same for ever after."""
    records = logs.read(_LOG)
    if not records:
        with contextlib.suppress(FileExistsError):
            logs.append(_LOG, 0, {"id": uuid.uuid4().hex})
        records = logs.read(_LOG)
    identity = records[0].get("id")
    if not isinstance(identity, str):
        raise ConfigurationError("The identity of the store is damaged.")
    return identity
