"""What of the adapters a caller sees, and by which names.

Inside, names are qualified; here they become so. Whatever a caller may not see does not exist for
it: the same look-ups are made and the same error is raised as for a name that nobody has.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from operator import attrgetter

from service.adapters.naming import is_valid_name
from service.adapters.registry import AdapterRegistry
from service.core import AdapterRef
from service.errors import AdapterNotFound, ModelNotFound, PermissionDenied
from service.handlers.adapter_views import AdapterView
from service.handlers.directory import Directory
from service.handlers.models import ModelEntry
from service.tenancy import (
    DEFAULT_TENANT,
    Principal,
    bare_name,
    is_valid_tenant,
    may_use,
    qualified,
    tenant_of,
)


class VisibleAdapters:
    def __init__(self, registry: AdapterRegistry, directory: Directory) -> None:
        self._registry = registry
        self._directory = directory

    def acquire(self, principal: Principal, model: str, key: str | None = None) -> AdapterRef:
        """Bind a request to what `model` means to its caller now. Raises `ModelNotFound`."""
        try:
            return self._registry.acquire(self._qualified_model(principal, model), key)
        except ModelNotFound:
            raise ModelNotFound(model) from None

    def release(self, ref: AdapterRef) -> None:
        self._registry.release(ref)

    def list_models(self, principal: Principal) -> Sequence[ModelEntry]:
        """By the names that the caller would write."""

        def id_of(name: str) -> str | None:
            return self._written(principal, name) if self._sees(principal, name) else None

        return sorted(self._directory.list_models(id_of), key=attrgetter("id"))

    def find_model(self, principal: Principal, model: str) -> ModelEntry:
        """The entry's id is what was asked. Raises `ModelNotFound`."""
        try:
            entry = self._directory.find_model(self._qualified_model(principal, model))
        except ModelNotFound:
            raise ModelNotFound(model) from None
        return replace(entry, id=model)

    def find(self, principal: Principal, name: str, tenant: str | None = None) -> str:
        """The qualified name of an adapter that the caller sees. Raises `AdapterNotFound`."""
        found = self._find(principal, name, tenant)
        if found is None:
            raise AdapterNotFound(name)
        return found

    def owned(self, principal: Principal, name: str, tenant: str | None = None) -> str:
        """The same, for who wants to change it.

        Raises `PermissionDenied` only for what the caller sees anyway.
        """
        found = self.find(principal, name, tenant)
        if not may_change(principal, found):
            raise PermissionDenied(f"Only its owner changes the adapter {name!r}.")
        return found

    def owned_model(self, principal: Principal, model: str, tenant: str | None = None) -> str:
        """The same of `name` with what may follow the `@`."""
        name, at, selector = model.partition("@")
        try:
            return f"{self.owned(principal, name, tenant)}{at}{selector}"
        except AdapterNotFound:
            raise AdapterNotFound(model) from None

    def claimed(self, principal: Principal, name: str, tenant: str | None = None) -> str:
        """The same, whether there is such an adapter or not: one that is deleted can come back."""
        wanted = qualified(principal.tenant if tenant is None else tenant, name)
        if is_valid_name(name) and may_change(principal, wanted):
            return wanted
        return self.owned(principal, name, tenant)

    def list(
        self, principal: Principal, tenant: str | None, limit: int, after: str | None
    ) -> tuple[Sequence[AdapterView], bool]:
        """A page of one tenant's adapters in the order of their names, and whether more follow."""
        owner = principal.tenant if tenant is None else tenant
        names = (n for n in self._directory.names(owner, after) if self._sees(principal, n))
        found = list(islice(names, limit + 1))
        return self._directory.view_all(found[:limit]), len(found) > limit

    def list_deleted(
        self, principal: Principal, tenant: str | None, limit: int, after: str | None
    ) -> tuple[Sequence[AdapterView], bool]:
        """Those that can be restored, for who may."""
        owner = principal.tenant if tenant is None else tenant
        if not may_change(principal, qualified(owner, "any")):
            return [], False
        return self._directory.list_deleted(owner, limit, after)

    def _qualified_model(self, principal: Principal, model: str) -> str:
        name, at, selector = model.partition("@")
        found = self._find(principal, name)
        if found is None:
            raise ModelNotFound(model)
        return f"{found}{at}{selector}"

    def _find(self, principal: Principal, name: str, tenant: str | None = None) -> str | None:
        candidates = _candidates(principal, name, tenant)
        return next((one for one in candidates if self._sees(principal, one)), None)

    def _sees(self, principal: Principal, name: str) -> bool:
        """One that cannot be served is seen by its owner alone."""
        if may_change(principal, name):
            return self._directory.has(name)
        visibility = self._registry.visibility(name)
        return visibility is not None and may_use(principal, name, visibility)

    def _written(self, principal: Principal, name: str) -> str:
        """As the caller writes it: bare its own, and what of `default` they do not hide."""
        owner, bare = tenant_of(name), bare_name(name)
        if owner == principal.tenant:
            return bare
        if owner != DEFAULT_TENANT:
            return name
        is_hidden = self._directory.has(qualified(principal.tenant, bare))
        return f"{DEFAULT_TENANT}/{bare}" if is_hidden else bare


def may_change(principal: Principal, name: str) -> bool:
    return principal.acts_for(tenant_of(name))


def _candidates(principal: Principal, name: str, tenant: str | None) -> Iterator[str]:
    """The caller's own first, then the operator's."""
    if tenant is None:
        owner, slash, bare = name.rpartition("/")
        tenant, name = (owner, bare) if slash else (None, name)
    if not is_valid_name(name):
        return
    if tenant is None:
        yield qualified(principal.tenant, name)
        yield name
    elif is_valid_tenant(tenant):
        yield qualified(tenant, name)
