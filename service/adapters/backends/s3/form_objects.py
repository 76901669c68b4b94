"""`SharedForms` in a bucket: `forms/<name>`."""

from collections.abc import Mapping
from pathlib import Path

from service.adapters.backends.contents import Stored
from service.adapters.backends.s3.bucket import Bucket
from service.adapters.backends.s3.failures import Damaged
from service.adapters.forms import FORM_NAME
from service.errors import StoreUnavailable

_FOLDER = "forms/"


class FormObjects:
    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def listing(self) -> Mapping[str, Stored]:
        found = ((one.key.removeprefix(_FOLDER), one) for one in self._bucket.listing(_FOLDER))
        return {
            name: Stored(one.num_bytes, one.modified_at)
            for name, one in found
            if FORM_NAME.fullmatch(name)
        }

    def fetch(self, name: str, target: Path) -> bool:
        try:
            return self._bucket.download(_FOLDER + name, target)
        except (StoreUnavailable, Damaged):
            return False

    def put(self, name: str, compiled: Path) -> None:
        self._bucket.upload(_FOLDER + name, compiled)

    def drop(self, name: str) -> None:
        self._bucket.delete(_FOLDER + name)
