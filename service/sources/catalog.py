"""From what a client writes to a source that the operator allows."""

import os
import threading
from typing import Any

import httpx
from pydantic import SecretStr

from service.adapters.backends.s3.client import S3Endpoint, s3_client
from service.errors import ConfigurationError
from service.settings import Settings
from service.sources.address import (
    BucketAddress,
    HubAddress,
    PathAddress,
    WebAddress,
    parse_address,
)
from service.sources.bucket import BucketSource
from service.sources.hosts import origin_of
from service.sources.local import LocalSource
from service.sources.patience import Patience
from service.sources.source import Source
from service.sources.web import WebSource
from service.sources.web_reader import WebReader

_HUB = "https://huggingface.co"


class SourceCatalog:
    def __init__(
        self, settings: Settings, reader: WebReader, patience: Patience | None = None
    ) -> None:
        """Raises `ConfigurationError`."""
        self._settings = settings
        self._reader = reader
        self._patience = patience or Patience()
        self._tokens = dict(map(_token, settings.source_tokens))
        self._endpoint = _hub_endpoint(settings)
        self._s3 = _LazyClient(settings)
        if settings.source_buckets:
            self._s3.get()

    def find(self, text: str) -> Source:
        """Raises `InvalidRequest` or `SourceRefused`."""
        address = parse_address(text)
        settings, patience = self._settings, self._patience
        match address:
            case WebAddress():
                hosts = settings.source_hosts
                return WebSource(address, self._reader, hosts, self._tokens, patience)
            case HubAddress():
                return self._hub(address)
            case BucketAddress():
                return BucketSource(address, self._s3.get, settings.source_buckets, patience)
            case PathAddress():
                return LocalSource(address, settings.source_root)

    async def close(self) -> None:
        await self._reader.aclose()

    def _hub(self, address: HubAddress) -> Source:
        # Not needed, and not imported, where nobody fetches from a hub.
        from service.sources.hub import Hub, HubSource

        token = self._settings.source_hub_token
        hub = Hub(
            self._endpoint,
            self._settings.source_hub_repos,
            self._settings.source_hub_hosts,
            token.get_secret_value() if token else None,
        )
        return HubSource(address, self._reader, hub, self._patience)


class _LazyClient:
    """boto3's clients take a while to make, and are for any number of threads."""

    def __init__(self, settings: Settings) -> None:
        self._endpoint = S3Endpoint(
            settings.source_s3_endpoint_url or settings.s3_endpoint_url,
            settings.s3_addressing_style,
            settings.source_s3_profile,
        )
        self._lock = threading.Lock()
        self._client: Any = None

    def get(self) -> Any:
        """Raises `ConfigurationError`."""
        with self._lock:
            if self._client is None:
                self._client = s3_client(self._endpoint)
            return self._client


def _token(setting: SecretStr) -> tuple[tuple[str, int], str]:
    host, _, token = setting.get_secret_value().partition("=")
    return origin_of(httpx.URL(f"https://{host.lower()}")), token


def _hub_endpoint(settings: Settings) -> str:
    endpoint = settings.source_hub_endpoint or os.environ.get("HF_ENDPOINT") or _HUB
    if settings.source_hub_repos and not endpoint.startswith("https://"):
        raise ConfigurationError("--source-hub-endpoint: sources are fetched over https:// alone")
    return endpoint.rstrip("/")
