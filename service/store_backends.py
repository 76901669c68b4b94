"""Puts the adapter store together that the settings name, for the server and for `gc`."""

from service.adapters.backends.folder_store import PRIVATE_FOLDER, folder_backends
from service.adapters.backends.store_backends import StoreBackends
from service.errors import ConfigurationError
from service.settings import Settings
from service.store_location import FolderLocation


def store_backends(settings: Settings, replica: str | None = None) -> StoreBackends:
    """With the id of a `replica` others may work on the store at the same time.

    Raises `ConfigurationError`.
    """
    location = settings.adapters_store
    if isinstance(location, FolderLocation):
        return folder_backends(location.path, replica)
    raise ConfigurationError("--adapters-store: a store in a bucket is not built yet")


def check_there_is_a_store(settings: Settings) -> None:
    """Before anything is made in a place that was named by mistake. Raises `ConfigurationError`."""
    location = settings.adapters_store
    if isinstance(location, FolderLocation) and not (location.path / PRIVATE_FOLDER).is_dir():
        raise ConfigurationError(f"There is no adapter store in {location}.")
