"""How the link to Redis is: what every thread may look at, kept by whoever has asked Redis last."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import structlog

from service.adapters.backends.redis.address import RedisAddress
from service.adapters.backends.redis.status import LinkPace, LinkStatus

_log = structlog.get_logger(__name__)


class LinkHealth:
    """Thread-safe."""

    def __init__(self, address: RedisAddress, pace: LinkPace) -> None:
        self.status = LinkStatus(since=time.monotonic())
        self.listeners: list[Callable[[LinkStatus], None]] = []
        self.attempts = 0
        """To reach Redis in vain, one after the other; also links that broke at once."""
        self._address = address
        self._pace = pace
        self._lock = threading.Lock()
        self._is_said = False

    def came_up(self, epoch: str, num_replicas: int) -> None:
        self._set(is_up=True, epoch=epoch, num_replicas=num_replicas)

    def went_down(self) -> None:
        self._set(is_up=False)

    def count(self, error: Exception) -> None:
        """Something failed that is tried again."""
        with self._lock:
            self.status = replace(self.status, num_errors=self.status.num_errors + 1)
        _log.debug("redis_failed", error=self._describe(error))

    def fail(self, error: Exception) -> None:
        self.count(error)
        self.went_down()
        if not self._is_said:
            self._is_said = True
            _log.warning("redis_down", redis=str(self._address), error=self._describe(error))

    def pause_s(self, attempts: int | None = None) -> float:
        """Before the next attempt, after so many in vain."""
        past = self.attempts if attempts is None else attempts
        return self._pace.backoff_s(past) * random.uniform(0.5, 1)

    def _describe(self, error: Exception) -> str:
        """Without what nobody may know, should a server ever quote it."""
        text = f"{type(error).__name__}: {error}"[:300]
        for secret in self._address.secrets.values():
            text = text.replace(str(secret), "…")
        return text

    def _set(self, **changes: Any) -> None:
        with self._lock:
            old, now = self.status, time.monotonic()
            new = replace(old, **changes)
            if new.is_up and not old.is_up:
                new = replace(new, num_ups=old.num_ups + 1, since=now)
            elif old.is_up and not new.is_up:
                new = replace(new, since=now)
                self.attempts = self.attempts + 1 if now - old.since < self._pace.stable_s else 0
            if self._is_gap(old, new, now):
                new = replace(new, gap_at=now)
            self.status = new
        if new.is_up and not old.is_up:
            self._is_said = False
            _log.info("redis_up", redis=str(self._address), replicas=new.num_replicas)
        if new != old:
            for listener in self.listeners:
                listener(new)

    def _is_gap(self, old: LinkStatus, new: LinkStatus, now: float) -> bool:
        if not (new.is_up and old.num_ups):
            return False
        was_away = not old.is_up and now - old.since > self._pace.heartbeat_s
        return was_away or new.epoch != old.epoch
