"""Which models a client may name: the base and every adapter on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.base import BaseDescription
from service.errors import ModelNotFound
from service.tenancy import Principal


@dataclass(frozen=True, slots=True)
class ModelEntry:
    id: str
    created: int
    """Unix seconds; never changes for an id."""
    parent: str | None
    """Served name of the base; None for the base itself."""
    version: int | None = None
    digest: str | None = None


class AdapterDirectory(Protocol):
    """The part of the adapters' use cases that the model list needs."""

    def list_models(self, principal: Principal) -> Sequence[ModelEntry]:
        """Every adapter that the caller can ask for now, by name."""

    def find_model(self, principal: Principal, model: str) -> ModelEntry:
        """`name` or `name@version`; the entry's id is what was asked. Raises `ModelNotFound`."""


class ModelCatalog:
    def __init__(
        self, base: BaseDescription, base_created: int, adapters: AdapterDirectory
    ) -> None:
        self._base = ModelEntry(base.name, base_created, parent=None)
        self._adapters = adapters

    def list(self, principal: Principal) -> Sequence[ModelEntry]:
        return [self._base, *self._adapters.list_models(principal)]

    def find(self, principal: Principal, model: str) -> ModelEntry:
        if model == self._base.id:
            return self._base
        name = model.removeprefix(f"{self._base.id}:")
        try:
            return self._adapters.find_model(principal, name)
        except ModelNotFound:
            raise ModelNotFound(model) from None
