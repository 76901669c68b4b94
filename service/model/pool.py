"""Adapter bytes in host memory and on the device. Carries out plans; decides nothing."""

from collections.abc import Iterable

import torch

from service.adapters.compiled import SiteTerms
from service.errors import AdapterLoadFailed
from service.model.context import StepContext
from service.model.copies import copies_to
from service.model.host_adapter import HostAdapter, view_of
from service.model.sites import Site, SiteForm
from service.operator.snapshot import UnknownPart, restore
from service.operator.tables import layers_of
from service.operator.terms import Terms
from service.step import ResidencyPlan, SlotLoad


class AdapterPool:
    """Owned by the engine thread. A slot is an extent of one byte arena; terms are views on it."""

    def __init__(
        self, sites: Iterable[Site], device_bytes: int, device: torch.device, context: StepContext
    ) -> None:
        self._sites = {site.path: site for site in sites}
        self._arena = torch.empty(device_bytes, dtype=torch.uint8, device=device)
        self._copies = copies_to(device)
        self._context = context
        self._hosts: dict[str, HostAdapter] = {}
        self._touched: dict[int, list[Site]] = {}

    def check(self, adapter: HostAdapter) -> None:
        """Raises `AdapterLoadFailed` for what cannot be placed, which ends its own requests alone.

        Builds whole layers, so a loader thread does it; it changes nothing.
        """
        if not all(terms.site in self._sites for terms in adapter.header.sites):
            raise AdapterLoadFailed("The adapter was compiled for another base.")
        try:
            for terms in adapter.header.sites:
                if terms.layer is not None:
                    self._form(adapter.payload, terms)
        except (UnknownPart, ImportError, AttributeError, TypeError, ValueError) as error:
            raise AdapterLoadFailed("The compiled form of the adapter is damaged.") from error

    def insert_host(self, digest: str, adapter: HostAdapter) -> None:
        """Of what has passed `check`."""
        self._hosts[digest] = adapter

    def apply(self, plan: ResidencyPlan) -> None:
        for slot in plan.evicted_slots:
            self._clear(slot)
        for load in plan.loads:
            self._fill(load)
        for digest in plan.evicted_hosts:
            del self._hosts[digest]

    def wait_for(self, slots: Iterable[int]) -> None:
        """Before a step reads them."""
        self._copies.wait_for(slots)

    def clear(self) -> None:
        """Forget everything, so that the sites can serve another pool."""
        for slot in list(self._touched):
            self._clear(slot)
        self._hosts.clear()

    def _clear(self, slot: int) -> None:
        for site in self._touched.pop(slot, ()):
            site.drop_form(slot)
        self._context.kernel_slots.discard(slot)
        self._context.tables.pop(slot, None)
        self._context.adaptions.pop(slot, None)

    def _fill(self, load: SlotLoad) -> None:
        header = self._hosts[load.digest].header
        extent = self._arena[load.offset : load.offset + header.payload_bytes]
        self._copies.start(load.slot, extent, self._hosts[load.digest].payload)
        sites = [self._sites[terms.site] for terms in header.sites]
        self._touched[load.slot] = sites
        are_taken = [
            site.set_form(load.slot, self._form(extent, terms))
            for site, terms in zip(sites, header.sites, strict=True)
        ]
        if all(are_taken) and not header.tables:
            self._context.kernel_slots.add(load.slot)
        if header.tables:
            tables = {name: view_of(extent, view) for name, view in header.tables.items()}
            self._context.tables[load.slot] = tables
            self._context.adaptions[load.slot] = layers_of(tables, "adaption")

    def _form(self, extent: torch.Tensor, terms: SiteTerms) -> SiteForm:
        site = self._sites[terms.site]
        views = {name: view_of(extent, view) for name, view in terms.terms.items()}
        module: torch.nn.Module | None = None
        if terms.layer is not None:
            tensors = [view_of(extent, view) for view in terms.layer_tensors]
            module = restore(terms.layer, tensors, lambda path: self._sites[path].base)
        elif terms.parameters:
            own = {name: view_of(extent, view) for name, view in terms.parameters.items()}
            module = site.private_copy(own)
        return SiteForm(Terms(**views), module)
