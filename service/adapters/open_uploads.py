"""What uploads that are not over take, all together and of each tenant. No clock, no disk.

Counted while bytes arrive, because a body need not announce its size.
"""

from collections import Counter
from dataclasses import dataclass

from service.errors import QuotaExceeded, TooManyUploads

_FREE_BYTES = 1 << 20
"""Of each upload, for which no tenant's room is asked: it may be content that is kept already."""
_STEP_BYTES = 16 << 20


@dataclass(eq=False, slots=True)
class Upload:
    tenant: str
    room: int | None
    """Bytes that the tenant may still keep, as of the beginning; None = any number."""
    num_bytes: int = 0

    @property
    def counted_bytes(self) -> int:
        return max(0, self.num_bytes - _FREE_BYTES)


class OpenUploads:
    def __init__(self, max_per_tenant: int) -> None:
        self._max_per_tenant = max_per_tenant
        self._num_open: Counter[str] = Counter()
        self._counted: Counter[str] = Counter()
        self.num_bytes = 0

    def open(self, tenant: str, room: int | None = None) -> Upload:
        """Raises `TooManyUploads`; what is returned is to be closed once."""
        if self._num_open[tenant] >= self._max_per_tenant:
            raise TooManyUploads(
                f"This tenant has {self._max_per_tenant} uploads open, as many as it may."
            )
        self._num_open[tenant] += 1
        return Upload(tenant, room)

    def grow(self, upload: Upload, num_bytes: int) -> bool:
        """Whether enough has come since for a look at the disk. Raises `QuotaExceeded`."""
        before, counted = upload.num_bytes, upload.counted_bytes
        upload.num_bytes += num_bytes
        self.num_bytes += num_bytes
        self._counted[upload.tenant] += upload.counted_bytes - counted
        if upload.room is not None and self._counted[upload.tenant] > upload.room:
            raise QuotaExceeded(
                f"This tenant's uploads exceed the {upload.room} bytes that are left of what it"
                " may keep (max_adapter_bytes)."
            )
        return before == 0 or before // _STEP_BYTES != upload.num_bytes // _STEP_BYTES

    def shrink(self, upload: Upload, num_bytes: int) -> None:
        """What had come is gone, and will come again."""
        counted = upload.counted_bytes
        upload.num_bytes -= num_bytes
        self.num_bytes -= num_bytes
        self._counted[upload.tenant] -= counted - upload.counted_bytes

    def close(self, upload: Upload) -> None:
        self.num_bytes -= upload.num_bytes
        self._counted[upload.tenant] -= upload.counted_bytes
        self._num_open[upload.tenant] -= 1
        if not self._num_open[upload.tenant]:
            del self._num_open[upload.tenant], self._counted[upload.tenant]
