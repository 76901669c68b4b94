"""Usage over HTTP."""

import pytest

from service.tenancy import Role
from tests.api.conftest import World
from tests.api.test_auth import BODY, ask, new_key


@pytest.fixture
def world() -> World:
    return World(settings={"api_key": ("op",)})


def use(world: World, key: str, model: str = "alpha", **body: object) -> None:
    sent = BODY | {"model": model, **body}
    assert ask(world, "POST", "/v1/completions", key, json=sent).status_code == 200


def test_who_used_what(world: World) -> None:
    red = new_key(world, "red", Role.ADMIN)
    use(world, red)
    use(world, red, "alpha@1", n=2)
    use(world, "op", "tiny", stream=True)
    query = "group_by=tenant&group_by=version"
    report = ask(world, "GET", f"/v1/usage?{query}", "op").json()
    found = {
        (one["tenant"], one["adapter"], one["version"]): (
            one["requests"],
            one["prompt_tokens"],
            one["completion_tokens"],
        )
        for one in report["data"]
    }
    assert found == {
        ("red", "alpha", "1"): (1, 3, 4),
        ("red", "alpha", "2"): (1, 3, 2),
        ("default", "tiny", ""): (1, 3, 2),
    }
    assert {one["day"] for one in report["data"]} == {None}
    assert report["total"]["requests"] == 3


def test_an_admin_sees_its_own_tenant(world: World) -> None:
    red = new_key(world, "red", Role.ADMIN)
    use(world, red)
    use(world, "op")
    (record,) = ask(world, "GET", "/v1/usage", red).json()["data"]
    assert (record["tenant"], record["requests"], record["adapter"]) == ("red", 1, None)
    assert ask(world, "GET", "/v1/usage?tenant=default", red).status_code == 403
    (record,) = ask(world, "GET", "/v1/usage?tenant=red", "op").json()["data"]
    assert record["tenant"] == "red"
    for role in (Role.USE, Role.PUBLISH):
        assert ask(world, "GET", "/v1/usage", new_key(world, "red", role)).status_code == 403


def test_pages_join(world: World) -> None:
    for model in ("alpha", "beta", "tiny"):
        use(world, "op", model)
    first = ask(world, "GET", "/v1/usage?group_by=adapter&limit=2", "op").json()
    assert ([one["adapter"] for one in first["data"]], first["has_more"]) == (
        ["alpha", "beta"],
        True,
    )
    after = first["data"][-1]["id"]
    path = "/v1/usage"
    rest = ask(world, "GET", path, "op", params={"group_by": "adapter", "after": after}).json()
    assert ([one["adapter"] for one in rest["data"]], rest["has_more"]) == (["tiny"], False)


@pytest.mark.parametrize("query", ["group_by=nonsense", "from=x", "from=2020-01-01", "limit=0"])
def test_a_query_that_means_nothing_is_a_400(world: World, query: str) -> None:
    assert ask(world, "GET", f"/v1/usage?{query}", "op").status_code == 400


def test_what_was_refused_is_not_usage(world: World) -> None:
    assert ask(world, "POST", "/v1/completions", "op", json=BODY | {"model": "x"}).is_error
    report = ask(world, "GET", "/v1/usage", "op").json()
    assert (report["data"], report["total"]["requests"]) == ([], 0)
