"""Puts the adapter store together that the settings name, for the server and for commands."""

import socket
import uuid

from service.adapters.backends.folder_store import PRIVATE_FOLDER, folder_backends
from service.adapters.backends.s3.client import S3Endpoint, s3_client
from service.adapters.backends.store_backends import StoreBackends
from service.errors import ConfigurationError
from service.settings import Settings
from service.store_location import BucketLocation, FolderLocation


def store_backends(
    settings: Settings, replica: str | None = None, *, command: str | None = None
) -> StoreBackends:
    """With the id of a `replica` others may work on the store at the same time. A `command` works
    on it for a moment.

    Raises `ConfigurationError`.
    """
    location = settings.adapters_store
    if isinstance(location, FolderLocation):
        return folder_backends(location.path, replica)
    client = s3_client(_endpoint(settings))
    # Where boto3 is missing that has been said by now.
    from service.adapters.backends.s3.bucket_store import bucket_backends

    own_name = f"{socket.gethostname()}-{settings.port}"
    if command is not None:
        own_name = f"{command}-{uuid.uuid4().hex}"
    return bucket_backends(
        client,
        location,
        settings.cache_dir / "store",
        replica or own_name,
        is_alone=replica is None,
    )


def check_there_is_a_store(settings: Settings) -> None:
    """Before anything is made in a place that was named by mistake. Raises `ConfigurationError`."""
    location = settings.adapters_store
    if isinstance(location, BucketLocation):
        is_there = _has_anything(settings, location)
    else:
        is_there = (location.path / PRIVATE_FOLDER).is_dir()
    if not is_there:
        raise ConfigurationError(f"There is no adapter store in {location}.")


def _has_anything(settings: Settings, location: BucketLocation) -> bool:
    client = s3_client(_endpoint(settings))
    from service.adapters.backends.s3.bucket_store import is_empty

    return not is_empty(client, location)


def _endpoint(settings: Settings) -> S3Endpoint:
    return S3Endpoint(settings.s3_endpoint_url, settings.s3_addressing_style)
