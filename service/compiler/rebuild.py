"""Compiles a stored version again when its compiled form is missing or damaged."""

from collections.abc import Callable
from pathlib import Path

from service.adapters.compiling import Compiler
from service.adapters.store import AdapterStore
from service.errors import AdapterLoadFailed, AdapterRefused, UploadTooLarge


def rebuild_from(store: AdapterStore, compiler: Compiler) -> Callable[[str, Path], Path]:
    """What `DiskCache` calls; raises `AdapterLoadFailed`."""

    def rebuild(digest: str, work: Path) -> Path:
        try:
            outcome = compiler.compile(store.object_folder(digest), work)
        except (AdapterRefused, UploadTooLarge) as error:
            message = f"The stored adapter cannot be used on this base: {error}"
            raise AdapterLoadFailed(message) from error
        if outcome.manifest.digest != digest:
            raise AdapterLoadFailed("The stored content of the adapter is damaged.")
        return outcome.compiled

    return rebuild
