"""Where the stores of a test lie, so that one suite runs over all that a store may lie on."""

from pathlib import Path
from typing import Protocol

import pytest

from service.adapters.backends.folder_store import folder_backends
from service.adapters.backends.s3.bucket_store import bucket_backends
from service.adapters.backends.s3.hold import HoldPace
from service.adapters.backends.store_backends import StoreBackends
from service.store_location import BucketLocation
from tests.s3_server import S3Server

PACE = HoldPace(beat_s=0.2, stale_s=3.0)
"""Times in S3 are whole seconds."""


class Place(Protocol):
    def backends(self, replica: str | None = None) -> StoreBackends:
        """Of one of several processes, or of one that believes to be alone."""


class FolderPlace:
    def __init__(self, root: Path) -> None:
        self.root = root

    def backends(self, replica: str | None = None) -> StoreBackends:
        return folder_backends(self.root, replica)


class BucketPlace:
    def __init__(self, s3: S3Server, root: Path) -> None:
        self.s3, self.root = s3, root
        self.location = BucketLocation(s3.new_bucket(), "a/store")

    def backends(self, replica: str | None = None) -> StoreBackends:
        who = replica or "alone"
        local = self.root / f"local-{who}"
        is_alone = replica is None
        client = self.s3.client
        return bucket_backends(client, self.location, local, who, is_alone=is_alone, pace=PACE)


def place_of(kind: str, request: pytest.FixtureRequest, root: Path) -> Place:
    if kind == "folder":
        return FolderPlace(root)
    return BucketPlace(request.getfixturevalue("s3"), root)


KINDS = ("folder", "bucket")
