"""`rebuild`: Redis knows again what the store says, while replicas run or while none does."""

import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from service.adapters.backends.rebuilding import Rebuilt, rebuild
from service.adapters.backends.redis.announcements import RedisAnnouncements
from service.adapters.backends.redis.mirror import RedisMirror
from service.adapters.backends.store_identity import store_identity
from service.bootstrap_fleet import link_of
from service.errors import ConfigurationError, StoreUnavailable
from service.settings import Settings
from service.store_backends import check_there_is_a_store, store_backends


@dataclass(frozen=True, slots=True)
class Report:
    folders: tuple[Rebuilt, ...]

    @property
    def is_whole(self) -> bool:
        return not any(one.damaged for one in self.folders)

    def body(self) -> dict[str, Any]:
        """For `--json`."""
        return {"rebuilt": [asdict(one) for one in self.folders]}

    def lines(self) -> Iterator[str]:
        """For people."""
        for one in self.folders:
            dropped = f", {one.num_dropped} dropped that are not there" if one.num_dropped else ""
            yield f"{one.folder}: {one.num_logs} logs of {one.num_records} records{dropped}"
            for log, reason in one.damaged.items():
                yield f"  {log} is left as Redis has it: {reason}"


def rebuild_mirror(settings: Settings) -> Report:
    """Changes nothing in the store. Raises `ConfigurationError` when there is no store, no Redis,
    or somebody owns the store."""
    if settings.redis_url is None:
        raise ConfigurationError("--redis-url: without Redis there is nothing to rebuild")
    check_there_is_a_store(settings)
    replica = f"rebuild-{uuid.uuid4().hex}"
    backends = store_backends(settings, replica)
    backends.hold.open(is_tidied=False)
    link = link_of(settings, replica)
    try:
        link.start()
        if not link.is_up:
            raise ConfigurationError(f"Redis cannot be reached at {link.address}.")
        store_id = store_identity(backends.logs)
        mirror, told = RedisMirror(link, store_id), RedisAnnouncements(link, store_id)
        return Report(tuple(rebuild(backends.logs, mirror, told)))
    except StoreUnavailable as error:
        message = "Redis or the store went away meanwhile; the next `rebuild` does all of it."
        raise ConfigurationError(message) from error
    finally:
        link.stop()
        backends.hold.close()
