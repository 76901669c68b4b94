"""Qualified names, and who may use what."""

import pytest

from service.tenancy import (
    ANYONE,
    PRIVATE,
    PUBLIC,
    Principal,
    Role,
    Visibility,
    bare_name,
    default_visibility,
    is_valid_tenant,
    may_use,
    qualified,
    tenant_of,
)

A = Principal("team-a", Role.ADMIN)
CLERK = Principal("default", Role.PUBLISH)


@pytest.mark.parametrize(
    ("tenant", "name", "whole"), [("default", "x", "x"), ("team-a", "x", "team-a/x")]
)
def test_a_qualified_name_says_both(tenant: str, name: str, whole: str) -> None:
    assert qualified(tenant, name) == whole
    assert (tenant_of(whole), bare_name(whole)) == (tenant, name)


@pytest.mark.parametrize(
    ("principal", "name", "visibility", "is_allowed"),
    [
        (A, "team-a/x", PRIVATE, True),
        (A, "team-b/x", PRIVATE, False),
        (A, "team-b/x", ("team-a", "team-c"), True),
        (A, "team-b/x", ("team-c",), False),
        (A, "team-b/x", PUBLIC, True),
        (A, "x", PRIVATE, False),
        (CLERK, "x", PRIVATE, True),
        (CLERK, "team-b/x", PRIVATE, False),
        (ANYONE, "team-b/x", PRIVATE, True),
    ],
)
def test_who_may_use_an_adapter(
    principal: Principal, name: str, visibility: Visibility, is_allowed: bool
) -> None:
    assert may_use(principal, name, visibility) is is_allowed


def test_what_nobody_has_spoken_of_is_the_owners_but_for_the_operators() -> None:
    assert default_visibility("x") == PUBLIC
    assert default_visibility("team-a/x") == PRIVATE
    assert not is_valid_tenant(PUBLIC[0])


def test_each_role_includes_those_before_it() -> None:
    order = [Role.USE, Role.PUBLISH, Role.ADMIN]
    for i, role in enumerate(order):
        assert [role.includes(other) for other in order] == [j <= i for j in range(3)]


def test_only_an_admin_of_the_operators_tenant_is_an_operator() -> None:
    assert ANYONE.is_operator
    assert not A.is_operator
    assert not CLERK.is_operator
