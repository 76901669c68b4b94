"""Fills a store with many adapters in moments: by the service's own compiler, store and cache, in
this process. A server starts a process for every upload, which takes minutes for thousands."""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from service.adapters.compiling import CompileOutcome
from service.adapters.disk_cache import DiskCache
from service.adapters.limits import AdapterLimits
from service.adapters.store import AdapterStore
from service.base import BaseDescription
from service.bootstrap import open_checker
from service.bootstrap_fleet import place_of
from service.compiler.compile import run_job
from service.compiler.job import Job
from service.settings import Settings


def fill(settings: Settings, folders: Mapping[str, Path], work: Path) -> int:
    """Publish `folders` by name where a server with these settings finds them, compiled.

    Returns how many bytes the largest of them takes in memory.
    """
    with open_checker(settings) as checker:
        base, limits = checker.base, checker.limits
    store = AdapterStore(place_of(settings).backends, limits)
    cache = DiskCache(
        settings.cache_dir / "adapters", settings.disk_adapter_bytes, base, _never_rebuilt
    )
    cache.start()
    store.open()
    sizes = [0]
    try:
        for name, folder in folders.items():
            outcome = _compile(folder, work, base, limits)
            cache.put(outcome.manifest.digest, outcome.compiled)
            store.publish(name, outcome, int(time.time()))
            sizes.append(outcome.manifest.payload_bytes(base.dtype))
            shutil.rmtree(work)
    finally:
        store.close()
    return max(sizes)


def _compile(
    folder: Path, work: Path, base: BaseDescription, limits: AdapterLimits
) -> CompileOutcome:
    work.mkdir()
    result = run_job(Job(str(folder), str(work), base, limits, False))
    assert result.manifest is not None, "only plain LoRAs are compiled without peft"
    return CompileOutcome(
        manifest=result.manifest,
        folder=folder,
        files=result.files,
        compiled=Path(result.compiled),
        warnings=result.warnings,
        unused_files=result.unused_files,
    )


def _never_rebuilt(digest: str, work: Path) -> NoReturn:
    raise AssertionError(f"{digest} was not compiled")
