"""Who works on a store in a bucket: `holds/<who>.json`, written again and again while he lives.

A bucket has no lock that goes with its holder. So this keeps mistakes out, and nothing rests on it:
what is recorded is right whoever writes beside whom. But a process that is alone hears of nobody,
so there must be nobody to hear of.
"""

import contextlib
import json
import threading
import time
import uuid
from dataclasses import dataclass

from service.adapters.backends.s3.bucket import Bucket
from service.adapters.backends.s3.failures import Damaged, told_at_start
from service.adapters.scratch import Scratch
from service.errors import ConfigurationError, StoreFull, StoreUnavailable
from service.store_location import BucketLocation

_FOLDER = "holds/"


@dataclass(frozen=True, slots=True)
class HoldPace:
    beat_s: float = 5.0
    stale_s: float = 20.0
    """After so long without a beat somebody is dead. More than two beats and what the store's clock
    is rounded to."""


class BucketHold:
    def __init__(
        self,
        bucket: Bucket,
        location: BucketLocation,
        scratch: Scratch,
        who: str,
        *,
        is_alone: bool,
        pace: HoldPace | None = None,
    ) -> None:
        """`who` comes back under that name after his death, and need not wait for himself."""
        self._bucket = bucket
        self._location = location
        self._scratch = scratch
        self._who = who
        self._is_alone = is_alone
        self._pace = pace or HoldPace()
        self._is_over = threading.Event()
        self._beating: threading.Thread | None = None

    def open(self, *, is_tidied: bool) -> None:  # noqa: ARG002
        if self._beating is not None:
            return
        self._scratch.open()
        try:
            with told_at_start(self._location):
                self._check_conditions()
                self._wait_for_others()
        except BaseException:
            self.close()
            raise
        self._is_over.clear()
        self._beating = threading.Thread(target=self._beat_for_ever, name="hold", daemon=True)
        self._beating.start()

    def close(self) -> None:
        if self._beating is not None:
            self._is_over.set()
            self._beating.join()
            self._beating = None
        with contextlib.suppress(StoreUnavailable):
            self._bucket.delete(self._key)
        self._scratch.close()

    @property
    def _key(self) -> str:
        return f"{_FOLDER}{self._who}.json"

    def _check_conditions(self) -> None:
        """The order of all that is recorded rests on them, and not every server has them."""
        key = f"{_FOLDER}probe/{uuid.uuid4().hex}"
        self._bucket.create(key, b"first")
        try:
            self._bucket.create(key, b"second")
        except FileExistsError:
            return
        finally:
            self._bucket.delete(key)
        raise ConfigurationError(
            f"The server of {self._location} writes over what is to be created only if it is"
            " absent (If-None-Match), so replicas would lose each other's changes; a store needs"
            " one that does not."
        )

    def _wait_for_others(self) -> None:
        """Until those who do not go with this one are dead; one that is seen to live is enough to
        give up."""
        seen: dict[str, float] = {}
        deadline = time.monotonic() + 2 * self._pace.stale_s
        while others := self._others():
            if time.monotonic() > deadline or any(
                seen.get(key, beat) != beat for key, beat in others.items()
            ):
                raise ConfigurationError(
                    f"The adapter store {self._location} is used by another process."
                )
            seen = others
            time.sleep(self._pace.beat_s / 4)

    def _others(self) -> dict[str, float]:
        """Last beats of those who may live and do not go with this one, by key."""
        self._beat()
        holds = {
            one.key: one.modified_at
            for one in self._bucket.listing(_FOLDER)
            if not one.key.startswith(f"{_FOLDER}probe/")
        }
        oldest = holds.pop(self._key, time.time()) - self._pace.stale_s
        return {
            key: beat
            for key, beat in holds.items()
            if beat >= oldest and (self._is_alone or self._is_of_one_alone(key))
        }

    def _is_of_one_alone(self, key: str) -> bool:
        try:
            return bool(json.loads(self._bucket.get(key) or b"{}").get("is_alone"))
        except (ValueError, Damaged):
            return False

    def _beat(self) -> None:
        self._bucket.put(self._key, json.dumps({"is_alone": self._is_alone}).encode())

    def _beat_for_ever(self) -> None:
        while not self._is_over.wait(self._pace.beat_s):
            with contextlib.suppress(StoreUnavailable, StoreFull):
                self._beat()
