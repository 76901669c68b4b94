"""How urgent a request may be: the field, its range, what a key allows."""

import pytest

from service.tenancy import Role
from tests.api.conftest import World
from tests.api.test_auth import ask
from tests.api.test_fields import BOTH, ROUTES, post, refused


def keyed(world: World, min_priority: int, tenant: str = "team-a", role: Role = Role.USE) -> str:
    world.settings["api_key"] = ("op",)
    return world.new_key(tenant, role, min_priority)


@BOTH
def test_the_priority_reaches_the_engine(world: World, route: str) -> None:
    assert post(world, route, priority=-7).status_code == 200
    assert post(world, route).status_code == 200
    assert [one.priority for one in world.engine.submitted] == [-7, 0]


@BOTH
@pytest.mark.parametrize("wrong", [1001, -1001, "high", 0.5, True])
def test_a_priority_is_a_whole_number_of_a_range(world: World, route: str, wrong: object) -> None:
    refused(post(world, route, priority=wrong), "priority")


@pytest.mark.parametrize(
    ("allowed", "sent", "got"),
    [(0, None, 0), (0, 5, 5), (-3, None, 0), (-3, -3, -3), (20, None, 20), (20, 21, 21)],
)
def test_a_request_is_as_urgent_as_it_says_within_what_its_key_allows(
    world: World, allowed: int, sent: int | None, got: int
) -> None:
    body = ROUTES["/v1/completions"] | {"priority": sent}
    assert ask(world, "POST", "/v1/completions", keyed(world, allowed), json=body).is_success
    assert world.engine.submitted[-1].priority == got


@BOTH
def test_more_urgent_than_the_key_allows_is_a_403_that_says_what_it_allows(
    world: World, route: str
) -> None:
    key = keyed(world, 2)
    answer = ask(world, "POST", route, key, json=ROUTES[route] | {"priority": 1})
    assert answer.status_code == 403
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("permission_error", "permission_denied")
    assert "from 2 on" in error["message"]
    assert not world.engine.submitted
    assert world.registry.acquired == world.registry.released


def test_a_managed_key_of_an_operator_is_held_to_its_bound(world: World) -> None:
    key = keyed(world, 2, "default", Role.ADMIN)
    for priority, status in ((1, 403), (2, 200)):
        body = ROUTES["/v1/completions"] | {"priority": priority}
        assert ask(world, "POST", "/v1/completions", key, json=body).status_code == status


def test_an_operator_may_be_as_urgent_as_it_likes(world: World) -> None:
    keyed(world, 0)
    body = ROUTES["/v1/completions"] | {"priority": -1000}
    assert ask(world, "POST", "/v1/completions", "op", json=body).is_success
