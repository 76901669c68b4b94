from datetime import date, timedelta

import pytest

from service.errors import InvalidRequest, PermissionDenied
from service.handlers.reports import days_between, seen_tenant
from service.tenancy import ANYONE, Principal, Role

DAY = date(2026, 3, 5)
TODAY = date(2026, 3, 9)
RED = Principal("red", Role.ADMIN, "k")


def test_by_default_the_last_week() -> None:
    assert days_between(None, None, TODAY) == (TODAY - timedelta(6), TODAY)
    assert days_between(None, DAY, TODAY) == (date(2026, 2, 27), DAY)
    assert days_between(None, date(1, 1, 2), TODAY) == (date(1, 1, 1), date(1, 1, 2))
    assert days_between(DAY, DAY, TODAY) == (DAY, DAY)


def test_days_in_the_wrong_order_or_too_many_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="behind"):
        days_between(DAY, date(2026, 3, 4), TODAY)
    with pytest.raises(InvalidRequest, match="92 days"):
        days_between(date(2025, 12, 3), DAY, TODAY)
    assert days_between(date(2025, 12, 4), DAY, TODAY)[0] == date(2025, 12, 4)


def test_an_operator_sees_everybody_and_an_admin_its_own() -> None:
    assert seen_tenant(ANYONE, None) is None
    assert seen_tenant(ANYONE, "red") == "red"
    assert seen_tenant(RED, None) == seen_tenant(RED, "red") == "red"
    with pytest.raises(PermissionDenied):
        seen_tenant(RED, "blue")
    assert seen_tenant(Principal("default", Role.USE), None) == "default"
