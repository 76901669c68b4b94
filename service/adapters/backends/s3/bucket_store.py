"""An adapter store in a bucket. Any number of processes may work on it at the same time."""

import uuid
from pathlib import Path
from typing import Any

from service.adapters.backends.s3.bucket import Bucket
from service.adapters.backends.s3.failures import told_at_start
from service.adapters.backends.s3.form_objects import FormObjects
from service.adapters.backends.s3.hold import BucketHold, HoldPace
from service.adapters.backends.s3.local_folders import LocalFolders
from service.adapters.backends.s3.original_objects import OriginalObjects
from service.adapters.backends.s3.record_objects import RecordObjects
from service.adapters.backends.s3.usage_objects import UsageObjects
from service.adapters.backends.store_backends import StoreBackends
from service.adapters.scratch import Scratch
from service.store_location import BucketLocation

_LOCAL_BYTES = 4 << 30
"""Of copies of originals: who has just compiled one seldom needs it again."""


def bucket_backends(
    client: Any,
    location: BucketLocation,
    local: Path,
    who: str,
    *,
    is_alone: bool,
    pace: HoldPace | None = None,
) -> StoreBackends:
    """`client` is one of boto3. `local` is a folder for what is rebuildable; several processes may
    share it."""
    bucket = Bucket(client, location)
    scratch = Scratch(local / "tmp")
    return StoreBackends(
        logs=RecordObjects(bucket),
        originals=OriginalObjects(
            bucket, LocalFolders(local / "originals", scratch.folder, _LOCAL_BYTES)
        ),
        usage=UsageObjects(bucket, f"{who}-{uuid.uuid4().hex[:8]}"),
        hold=BucketHold(bucket, location, scratch, who, is_alone=is_alone, pace=pace),
        work=scratch.folder,
        forms=FormObjects(bucket),
        is_shared=True,
    )


def is_empty(client: Any, location: BucketLocation) -> bool:
    """Whether nothing has ever been stored there. Raises `ConfigurationError`."""
    with told_at_start(location):
        return next(Bucket(client, location).listing(""), None) is None
