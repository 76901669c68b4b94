"""The order in which names are kept equals the one that a look at all of them finds."""

from hypothesis import given, strategies as st

from service.adapters.history import NameHistory
from service.adapters.known_names import KnownNames
from service.adapters.operations import Delete, Publish
from service.tenancy import DEFAULT_TENANT, bare_name, qualified, tenant_of

TENANTS = (DEFAULT_TENANT, "a", "a-b")
NAMES = [qualified(tenant, name) for tenant in TENANTS for name in ("B", "a", "a-b", "a.b", "ab")]


def history(is_usable: bool) -> NameHistory:
    found = NameHistory().after(Publish(1, "0" * 64, 1, (), ()))
    return found if is_usable else found.after(Delete(1))


CHANGES = st.lists(st.dictionaries(st.sampled_from(NAMES), st.booleans()), max_size=8)


@given(CHANGES, st.none() | st.sampled_from(["", "a", "a-", "a/b", "zz"]))
def test_names_behind_another(changes: list[dict[str, bool]], after: str | None) -> None:
    known, usable = KnownNames(), dict[str, bool]()
    for change in changes:
        known._know({name: history(one) for name, one in change.items()})
        usable |= change
    expected = sorted(name for name, one in usable.items() if one)
    assert known.names() == expected
    for tenant in TENANTS:
        own = [name for name in expected if tenant_of(name) == tenant]
        assert known.num_adapters(tenant) == len(own)
        behind = [name for name in own if after is None or bare_name(name) > after]
        assert list(known.names_of(tenant, after)) == behind
