"""Adapter bytes in host memory and on the device. Carries out plans; decides nothing."""

import math
from collections.abc import Iterable

import torch

from service.adapters.compiled import SiteTerms, TermView
from service.core import ResidencyPlan, SlotLoad
from service.errors import AdapterLoadFailed
from service.model.host_adapter import HostAdapter
from service.model.sites import Site, Terms

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class AdapterPool:
    """Owned by the engine thread. A slot is an extent of one byte arena; terms are views on it."""

    def __init__(self, sites: Iterable[Site], device_bytes: int, device: torch.device) -> None:
        self._sites = {site.path: site for site in sites}
        self._arena = torch.empty(device_bytes, dtype=torch.uint8, device=device)
        self._hosts: dict[str, HostAdapter] = {}
        self._touched: dict[int, list[Site]] = {}

    def insert_host(self, digest: str, adapter: HostAdapter) -> None:
        """Raises `AdapterLoadFailed` here, where it ends this adapter's requests alone."""
        if not all(terms.site in self._sites for terms in adapter.header.sites):
            raise AdapterLoadFailed("The adapter was compiled for another base.")
        self._hosts[digest] = adapter

    def apply(self, plan: ResidencyPlan) -> None:
        for slot in plan.evicted_slots:
            self._clear(slot)
        for load in plan.loads:
            self._fill(load)
        for digest in plan.evicted_hosts:
            del self._hosts[digest]

    def clear(self) -> None:
        """Forget everything, so that the sites can serve another pool."""
        for slot in list(self._touched):
            self._clear(slot)
        self._hosts.clear()

    def _clear(self, slot: int) -> None:
        for site in self._touched.pop(slot, ()):
            site.drop_terms(slot)

    def _fill(self, load: SlotLoad) -> None:
        adapter = self._hosts[load.digest]
        num_bytes = adapter.header.payload_bytes
        extent = self._arena[load.offset : load.offset + num_bytes]
        extent.copy_(adapter.payload, non_blocking=True)
        touched = []
        for terms in adapter.header.sites:
            site = self._sites[terms.site]
            site.set_terms(load.slot, _views(extent, terms))
            touched.append(site)
        self._touched[load.slot] = touched


def _views(extent: torch.Tensor, terms: SiteTerms) -> Terms:
    return Terms(*(_view(extent, view) for view in (terms.a, terms.b, terms.c, terms.d)))


def _view(extent: torch.Tensor, view: TermView | None) -> torch.Tensor | None:
    if view is None:
        return None
    dtype = _DTYPES[view.dtype]
    num_bytes = math.prod(view.shape) * dtype.itemsize
    return extent[view.offset : view.offset + num_bytes].view(dtype).view(view.shape)
