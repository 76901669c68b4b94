"""https://: an archive at a URL."""

from collections.abc import Mapping, Sequence

from service.sources.address import WebAddress
from service.sources.download import Download
from service.sources.hosts import is_listed, origin_of
from service.sources.patience import Patience
from service.sources.source import Target, refused
from service.sources.web_reader import Link, WebReader

FLAG = "--source-hosts"


class WebSource:
    scheme = "https"

    def __init__(
        self,
        address: WebAddress,
        reader: WebReader,
        hosts: Sequence[str],
        tokens: Mapping[tuple[str, int], str],
        patience: Patience,
    ) -> None:
        """`tokens` by host and port. Raises `SourceRefused`."""
        if not is_listed(address.url, hosts):
            raise refused(f"The host of {address}" if hosts else "https://", FLAG)
        self.shown = str(address)
        token = tokens.get(origin_of(address.url))
        secrets = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._link = Link(address.url, hosts, FLAG, secrets)
        self._reader = reader
        self._patience = patience

    async def fetch(self, target: Target) -> str:
        return await Download(self._reader, self._link, target).run(None, self._patience)
