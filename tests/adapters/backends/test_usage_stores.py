"""`UsageStore`, whatever it lies on: sums of all who add, and as many rows as there may be."""

from datetime import date

from service.adapters.backends.store_backends import StoreBackends
from service.adapters.backends.usage import Usage, UsageKey
from service.tenancy import OTHERS
from tests.adapters.places import Place

DAY, NEXT_DAY = date(2026, 3, 5), date(2026, 3, 6)
KEY, BASE = UsageKey("red", "red/roman", "3"), UsageKey("red", "tiny", "")
ONE = Usage(1, 0, 10, 4, 20, 1024)


def test_what_is_added_adds_up(pair: tuple[StoreBackends, StoreBackends], place: Place) -> None:
    one, other = (backends.usage for backends in pair)
    assert one.read(DAY) == {}
    one.add(DAY, {KEY: ONE})
    other.add(DAY, {KEY: ONE})
    one.add(DAY, {KEY: ONE, BASE: ONE})
    one.add(NEXT_DAY, {KEY: ONE})
    one.add(DAY, {BASE: ONE})
    assert one.read(DAY) == other.read(DAY) == {KEY: ONE + ONE + ONE, BASE: ONE + ONE}
    assert one.read(NEXT_DAY) == {KEY: ONE}
    again = place.backends("x").usage
    pair[0].hold.close()
    pair[0].hold.open(is_tidied=True)
    again.add(DAY, {KEY: ONE})
    assert again.read(DAY)[KEY] == ONE + ONE + ONE + ONE


def test_a_day_has_a_bounded_number_of_rows(pair: tuple[StoreBackends, StoreBackends]) -> None:
    store = pair[0].usage
    store._max_rows = 2
    for name in "abcd":
        store.add(DAY, {UsageKey("red", name, ""): ONE})
    found = store.read(DAY)
    assert {key.adapter for key in found} == {"a", "b", OTHERS}
    assert sum(one.requests for one in found.values()) == 4
