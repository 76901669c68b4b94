"""hf://: the files of an adapter in a repository of the Hugging Face hub.

huggingface_hub says how its URLs look and what its answers mean; its own session would go wherever
it is sent, with whatever token lies on this machine.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

import httpx
from huggingface_hub import ModelInfo, hf_hub_url

from service.errors import SourceFailed
from service.sources.address import HubAddress
from service.sources.download import Download, Wanted
from service.sources.patience import Patience
from service.sources.source import Target, adapter_files, refused
from service.sources.web_reader import Link, WebReader

FLAG = "--source-hub-repos"
_MAX_INFO_BYTES = 8 << 20
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_DEFAULT_REVISION = "main"


@dataclass(frozen=True, slots=True)
class Hub:
    endpoint: str
    """https://host[:port]"""
    repositories: Sequence[str]
    hosts: Sequence[str]
    """Beside its own."""
    token: str | None = field(default=None, repr=False)

    def allows(self, repository: str) -> bool:
        organisation = repository.partition("/")[0]
        return any(one in ("*", organisation, repository) for one in self.repositories)

    def link(self, url: str) -> Link:
        own = httpx.URL(self.endpoint).netloc.decode()
        secrets = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        return Link(httpx.URL(url), (own, *self.hosts), "--source-hub-hosts", secrets)


class HubSource:
    scheme = "hf"

    def __init__(
        self, address: HubAddress, reader: WebReader, hub: Hub, patience: Patience
    ) -> None:
        """Raises `SourceRefused`."""
        if not hub.allows(address.repository):
            what = f"The repository {address.repository}" if hub.repositories else "hf://"
            raise refused(what, FLAG)
        self.shown = str(address)
        self._address = address
        self._reader = reader
        self._hub = hub
        self._patience = patience

    async def fetch(self, target: Target) -> str:
        info = await self._info()
        found = str(info.id)[:200]
        if not self._hub.allows(found):  # the hub has moved it there
            raise refused(f"The repository {found}", FLAG)
        commit = info.sha or ""
        if not _COMMIT.fullmatch(commit):
            raise SourceFailed("The hub does not say which commit this is.")
        files = self._files(info)
        wanted = adapter_files(set(files), str(self._address))
        target.announce(sum(files[name].num_bytes or 0 for name in wanted))
        for name in wanted:
            url = hf_hub_url(
                self._address.repository,
                name,
                subfolder=self._address.folder or None,
                revision=commit,
                endpoint=self._hub.endpoint,
            )
            download = Download(self._reader, self._hub.link(url), target, files[name])
            await download.run(name, self._patience)
        return commit

    async def _info(self) -> ModelInfo:
        revision = quote(self._address.revision or _DEFAULT_REVISION, safe="")
        path = f"/api/models/{self._address.repository}/revision/{revision}?blobs=true"
        link = self._hub.link(f"{self._hub.endpoint}{path}")
        answer = await self._patience.try_(lambda: self._reader.json(link, _MAX_INFO_BYTES))
        try:
            return ModelInfo(**answer)  # type: ignore[no-untyped-call]
        except (TypeError, KeyError, ValueError, AttributeError):
            raise SourceFailed("The hub's answer about the repository cannot be read.") from None

    def _files(self, info: ModelInfo) -> dict[str, Wanted]:
        """Those that lie right in the folder."""
        start = f"{self._address.folder}/" if self._address.folder else ""
        return {
            one.rfilename.removeprefix(start): Wanted(one.size, one.lfs.sha256 if one.lfs else None)
            for one in info.siblings or ()
            if one.rfilename.startswith(start)
        }
