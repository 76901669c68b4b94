"""How the disk tier uses the forms that all replicas share: as a help, never as a need.

What cannot be taken is compiled, and what cannot be given is compiled again elsewhere.
"""

import threading
import time
from pathlib import Path

import structlog

from service.adapters.backends.contents import SharedForms
from service.core import TierStats
from service.errors import StoreFull, StoreUnavailable

log = structlog.get_logger(__name__)


class FormSharing:
    """Blocking and thread-safe. Names are those of the files."""

    def __init__(self, forms: SharedForms | None) -> None:
        """None: there is nobody to share with."""
        self._forms = forms
        self._lock = threading.Lock()
        self._hits = self._misses = 0
        self._seconds = 0.0

    def fetch(self, name: str, target: Path) -> bool:
        """False when it has to be compiled. Whoever fetches looks at what came, and says so."""
        if self._forms is None:
            return False
        started = time.monotonic()
        try:
            is_there = self._forms.fetch(name, target)
        except OSError as error:
            # Of this side: `target` cannot be written.
            log.warning("shared_form_not_fetched", form=name, reason=error.strerror)
            is_there = False
        if not is_there:
            with self._lock:
                self._misses += 1
            return False
        with self._lock:
            self._hits += 1
            self._seconds += time.monotonic() - started
        return True

    def was_damaged(self, name: str) -> None:
        log.warning("shared_form_damaged", form=name)
        with self._lock:
            self._hits -= 1
            self._misses += 1

    def put(self, name: str, compiled: Path) -> None:
        if self._forms is not None:
            try:
                self._forms.put(name, compiled)
            except (StoreFull, StoreUnavailable, OSError) as error:
                log.warning("form_not_shared", form=name, reason=str(error))

    def drop(self, name: str) -> None:
        if self._forms is not None:
            try:
                self._forms.drop(name)
            except StoreUnavailable as error:
                log.warning("shared_form_not_dropped", form=name, reason=str(error))

    def stats(self) -> dict[str, TierStats]:
        """By the tier's name: nothing where nobody shares."""
        if self._forms is None:
            return {}
        with self._lock:
            stats = TierStats(
                hits=self._hits,
                misses=self._misses,
                loads=self._hits,
                load_seconds=self._seconds,
            )
        return {"store": stats}
