"""`Originals` in a bucket, as `generations.py` describes; those that are read are copied here."""

import json
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import structlog

from service.adapters.backends.contents import Removed, Stored
from service.adapters.backends.s3.bucket import Bucket
from service.adapters.backends.s3.failures import Damaged
from service.adapters.backends.s3.generations import ROOT, Generation, generations_of
from service.adapters.backends.s3.local_folders import LocalFolders
from service.adapters.backends.s3.moving import PRESENT, REMOVED, Moving, State, Taken
from service.adapters.compiling import CompileOutcome
from service.adapters.files import TEXT_FILES
from service.adapters.manifest import Manifest
from service.adapters.objects import decode_manifest, used_files
from service.errors import AdapterLoadFailed, StoreFull, StoreUnavailable

log = structlog.get_logger(__name__)


class OriginalObjects:
    def __init__(self, bucket: Bucket, local: LocalFolders) -> None:
        self._bucket = bucket
        self._local = local

    def listing(self) -> Mapping[str, Stored]:
        found: dict[str, Stored] = {}
        for one in self._generations(""):
            if not (one.is_begun or one.is_removed):
                before = found.get(one.digest, Stored(0, 0.0))
                num_bytes = before.num_bytes + one.num_bytes
                written_at = max(before.written_at, one.written_at)
                found[one.digest] = Stored(num_bytes, written_at)
        return found

    def has(self, digest: str) -> bool:
        return next(self._whole(digest), None) is not None

    def manifest(self, digest: str) -> Manifest | None:
        manifests = (_manifest(state) for _, state in self._whole(digest))
        return next((one for one in manifests if one is not None), None)

    def add(self, outcome: CompileOutcome) -> None:
        digest = outcome.manifest.digest
        if self.manifest(digest) is not None:
            return
        files = list(used_files(outcome))
        names = sorted(path.name for path in files)
        state = {"manifest": outcome.manifest.to_json(), "files": names}
        moving = Moving(Generation(digest, uuid.uuid4().hex), state, self._bucket)
        try:
            for path in files:
                self._bucket.upload(moving.generation.file_key(path.name), path)
                moving.generation.files.append(path.name)
            is_first = moving.on_to(PRESENT)
        except StoreFull:
            with suppress(StoreUnavailable):
                moving.finish()
            raise
        if not (is_first and self._is_whole(moving)):
            message = "The upload took so long that it was taken for given up; send it again."
            raise StoreUnavailable(message)

    def folder(self, digest: str) -> Path:
        return self._local.get(digest, lambda target: self._fetch(digest, target, ()))

    def text_folder(self, digest: str) -> Path:
        known = self._local.known(digest)
        if known is not None:
            return known
        name = f"{digest}.text"
        return self._local.get(name, lambda target: self._fetch(digest, target, TEXT_FILES))

    def remove(self, digest: str) -> Removed:
        taken = []
        for one in self._generations(digest):
            if one.is_begun or one.is_removed:
                continue  # By somebody who may be at it; see `removed`.
            moving = Moving.of(one, self._bucket)
            if moving.is_gone:
                moving.finish()
            elif moving.on_to(REMOVED):
                taken.append(moving)
        return Taken(digest, tuple(taken))

    def removed(self) -> list[Removed]:
        """With what somebody has begun to write or to delete, and may have died over."""
        others = (one for one in self._generations("") if one.next_state != 1 or one.is_hollow)
        moving = (Moving.of(one, self._bucket) for one in others)
        return [
            one
            for one in moving
            if one.generation.is_begun or one.generation.is_removed or one.is_gone
        ]

    def _generations(self, digest: str) -> Iterator[Generation]:
        """Of that digest, or of all."""
        return generations_of(self._bucket.listing(f"{ROOT}{digest}/" if digest else ROOT))

    def _is_whole(self, added: Moving) -> bool:
        """Otherwise nothing is left of it."""
        name = added.generation.name
        if any(one.name == name for one, _ in self._whole(added.digest)):
            return True
        if added.on_to(REMOVED):
            added.forget()
        return False

    def _whole(self, digest: str) -> Iterator[tuple[Generation, State]]:
        for one in self._generations(digest):
            if not (one.is_begun or one.is_removed):
                state = Moving.of(one, self._bucket).state
                if state.get("is") == PRESENT and set(state.get("files", "?")) <= set(one.files):
                    yield one, state

    def _fetch(self, digest: str, target: Path, names: Collection[str]) -> None:
        """Those of the files that are in `names`; all of them if that is empty."""
        if self._fetch_whole(digest, target, names):
            return
        # Somebody needs it, so whoever removed it is to find a record that speaks of it.
        for one in self._generations(digest):
            if one.is_removed:
                Moving.of(one, self._bucket).put_back()
        if not self._fetch_whole(digest, target, names):
            raise AdapterLoadFailed("The stored files of the adapter are missing or damaged.")

    def _fetch_whole(self, digest: str, target: Path, names: Collection[str]) -> bool:
        for generation, state in self._whole(digest):
            wanted = [name for name in state["files"] if name in names or not names]
            if self._fetch_files(generation, target, wanted):
                return True
        return False

    def _fetch_files(self, generation: Generation, target: Path, names: Collection[str]) -> bool:
        try:
            return all(
                self._bucket.download(generation.file_key(name), target / name) for name in names
            )
        except Damaged as error:
            log.warning("original_damaged", digest=generation.digest, key=str(error))
            return False


def _manifest(state: State) -> Manifest | None:
    return decode_manifest(json.dumps(state.get("manifest")).encode())
