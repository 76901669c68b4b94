"""From what a client writes to a source that the operator allows."""

import os
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
from service.sources.hub import Hub, HubSource
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
        self._s3 = _s3_client(settings)

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
                return BucketSource(address, self._s3, settings.source_buckets, patience)
            case PathAddress():
                return LocalSource(address, settings.source_root)

    async def close(self) -> None:
        await self._reader.aclose()

    def _hub(self, address: HubAddress) -> Source:
        token = self._settings.source_hub_token
        hub = Hub(
            self._endpoint,
            self._settings.source_hub_repos,
            self._settings.source_hub_hosts,
            token.get_secret_value() if token else None,
        )
        return HubSource(address, self._reader, hub, self._patience)


def _s3_client(settings: Settings) -> Any:
    """None where nothing may be read from S3."""
    if not settings.source_buckets:
        return None
    url = settings.source_s3_endpoint_url or settings.s3_endpoint_url
    style, profile = settings.s3_addressing_style, settings.source_s3_profile
    return s3_client(S3Endpoint(url, style, profile))


def _token(setting: SecretStr) -> tuple[tuple[str, int], str]:
    host, _, token = setting.get_secret_value().partition("=")
    return origin_of(httpx.URL(f"https://{host.lower()}")), token


def _hub_endpoint(settings: Settings) -> str:
    endpoint = settings.source_hub_endpoint or os.environ.get("HF_ENDPOINT") or _HUB
    if settings.source_hub_repos and not endpoint.startswith("https://"):
        raise ConfigurationError("--source-hub-endpoint: sources are fetched over https:// alone")
    return endpoint.rstrip("/")
