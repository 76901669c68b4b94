"""Which adapters one step brings to the device."""

import math

from service.adapters.residency import Residency
from service.core import AdapterRef


class Placement:
    """Bounds what is copied in front of a step, and asks the residency nothing twice."""

    def __init__(
        self, residency: Residency, max_copied_bytes: float, max_copied_adapters: float
    ) -> None:
        self._residency = residency
        self._max_copied_bytes = max_copied_bytes
        self._max_copied_adapters = max_copied_adapters
        self._num_copied_bytes = self._num_copied_adapters = 0
        self._refused_bytes = math.inf
        """The smallest adapter that found no room: within a step room only shrinks."""

    def is_for_later(self, ref: AdapterRef) -> bool:
        """The next step may copy it; this one has copied enough. The first is always copied."""
        if not self._num_copied_adapters or self._residency.is_on_device(ref.digest):
            return False
        if self._num_copied_adapters >= self._max_copied_adapters:
            return True
        return self._num_copied_bytes + ref.compiled_bytes > self._max_copied_bytes

    def may_fit(self, ref: AdapterRef) -> bool:
        is_small = ref.compiled_bytes < self._refused_bytes
        return is_small or self._residency.is_on_device(ref.digest)

    def try_activate(self, ref: AdapterRef) -> int | None:
        is_there = self._residency.is_on_device(ref.digest)
        slot = self._residency.try_activate(ref)
        if slot is None:
            self._refused_bytes = min(self._refused_bytes, ref.compiled_bytes)
        elif not is_there:
            self._num_copied_bytes += ref.compiled_bytes
            self._num_copied_adapters += 1
        return slot
