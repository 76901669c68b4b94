"""Both clients against the application: real routes, real store, real error table."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.adapters.limits import AdapterLimits
from service.client import (
    AsyncClient,
    BadRequest,
    Client,
    Conflict,
    Forbidden,
    InvalidCall,
    NotFound,
    Refused,
    UnexpectedAnswer,
    Unreachable,
)
from service.client.client import KEY_VARIABLE, URL_VARIABLE
from service.client.results import access, adapters, reports
from service.client.results.base import Result
from service.settings import CLIENT_VARIABLES
from tests.api.conftest import run, serve
from tests.client.house_app import HouseApp

Loras = Callable[[int], Path]


def test_a_life_of_an_adapter(house: HouseApp, lora: Loras, tmp_path: Path) -> None:
    archive = tmp_path / "two.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        opened.add(lora(2), "two")
    seen: list[tuple[int, int]] = []

    async def walk() -> None:
        async with house.client() as client:
            adapters = client.adapters
            first = await adapters.push("a", lora(1), on_progress=lambda *at: seen.append(at))
            assert (first.version, first.created, first.kind) == (1, True, "lora")
            assert not (await adapters.push("a", lora(1))).created
            second = await adapters.push("a", archive)
            assert second.version == 2
            moved = await adapters.move("a", {"stable": 1, "canary": {1: 95, 2: 5}, "x": 2})
            assert moved.aliases == {"stable": 1, "canary": {"1": 95, "2": 5}, "x": 2}
            moved = await adapters.move("a", {"x": None}, current=1)
            assert set(moved.aliases) == {"stable", "canary"}
            assert moved.current is not None
            assert moved.current.version == 1
            back = await adapters.rollback("a", if_match=moved.etag)
            assert back.current is not None
            assert back.current.digest == second.digest
            with pytest.raises(Conflict) as stale:
                await adapters.rollback("a", if_match=moved.etag)
            assert (stale.value.status, stale.value.code) == (412, "precondition_failed")
            assert await adapters.get("a") == back
            await adapters.move("a", {"stable": None, "canary": None})
            with pytest.raises(Conflict, match="current") as used:
                await adapters.delete("a@2")
            assert (used.value.code, used.value.pointers) == ("version_in_use", ("current",))
            assert (await adapters.delete("a@1")).version == 1
            assert [one.version for one in (await adapters.get("a")).deleted] == [1]
            await adapters.restore("a", 1)
            gone = await adapters.delete("a")
            assert (gone.deleted, gone.version) == (True, None)
            assert [one.name async for one in adapters.list()] == []
            assert [one.name async for one in adapters.list(deleted=True)] == ["a"]
            assert (await adapters.gc(dry_run=True)).versions == ()
            restored = await adapters.restore("a")
            assert [one.version for one in restored.versions] == [1, 2]
            await adapters.delete("a")
            with pytest.raises(NotFound, match="'b' does not exist") as unknown:
                await adapters.get("b")
            assert unknown.value.code == "adapter_not_found"
            assert len(unknown.value.request_id) >= 16

    run(walk())
    total = seen[-1][1]
    assert seen[-1] == (total, total)
    assert [sent for sent, _ in seen] == sorted(sent for sent, _ in seen)
    assert total > sum(path.stat().st_size for path in lora(1).iterdir())


def test_the_blocking_client_has_the_same_calls(house: HouseApp, lora: Loras) -> None:
    seen: list[int] = []
    with serve(house.app()) as url, Client(f"{url}/v1/") as client:
        assert client.ready().is_ready
        assert client.version().model == house.base.description.name
        made = client.adapters.push("a", lora(1), on_progress=lambda sent, _: seen.append(sent))
        assert client.adapters.get("a").current == client.adapters.move("a", current=1).current
        assert [one.name for one in client.adapters.list()] == ["a"]
        with pytest.raises(NotFound):
            client.adapters.get("b/../a")
    assert made.version == 1
    assert len(seen) > 1


def test_both_clients_name_the_same_methods() -> None:
    def names(kind: object) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    blocking, awaiting = Client(), AsyncClient()
    assert names(blocking) - {"close"} == names(awaiting) - {"aclose"} >= {"version", "adapters"}
    for group in ("adapters", "keys", "tenants"):
        found = names(getattr(blocking, group))
        assert found == names(getattr(awaiting, group)) >= {"list"}


def test_listings_fetch_page_after_page(house: HouseApp, lora: Loras) -> None:
    calls: list[str] = []

    async def walk() -> list[str]:
        async with house.client() as client:
            client.transport.http.event_hooks["request"].append(note)
            for name in "edcba":
                await client.adapters.push(name, lora(1))
            calls.clear()
            return [one.name async for one in client.adapters.list(page_size=2)]

    async def note(request: httpx.Request) -> None:
        calls.append(request.url.query.decode())

    assert run(walk()) == list("abcde")
    assert calls == ["limit=2", "limit=2&after=b", "limit=2&after=d"]


def test_a_refusal_carries_every_reason(house: HouseApp, lora: Loras, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(lora(1), folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    config |= {"use_something_new": True, "lora_alpha": "x"}
    (folder / "adapter_config.json").write_text(json.dumps(config))

    async def walk() -> Refused:
        async with house.client() as client:
            with pytest.raises(Refused) as refused:
                await client.adapters.push("a", folder)
            return refused.value

    error = run(walk())
    assert (error.status, error.code) == (422, "adapter_refused")
    assert {"use_something_new", "lora_alpha"} <= {reason.subject for reason in error.reasons}
    assert all(reason.code and reason.message for reason in error.reasons)


def test_an_upload_that_is_refused_at_once_still_learns_why(
    house: HouseApp, tmp_path: Path
) -> None:
    house.limits = AdapterLimits(max_upload_bytes=100_000)
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(bytes(10_000_000))
    with (
        serve(house.app()) as url,
        Client(url) as client,
        pytest.raises(BadRequest, match="100000 bytes") as large,
    ):
        client.adapters.push("a", folder)
    assert (large.value.status, large.value.code) == (413, "too_large")


def test_the_key_is_the_argument_or_the_clients_own_variable(
    house: HouseApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.settings = {"api_key": "right,other"}

    async def version(key: str | None) -> str:
        async with house.client(key) as client:
            return (await client.version()).version

    for wrong in (None, "wrong"):
        with pytest.raises(Forbidden) as error:
            run(version(wrong))
        assert (error.value.status, error.value.code) == (401, "invalid_api_key")
    assert run(version("right"))
    monkeypatch.setenv(KEY_VARIABLE, "other")
    assert run(version(None))
    with pytest.raises(Forbidden):
        run(version("wrong"))


def test_the_clients_variables_are_no_unknown_settings() -> None:
    assert {URL_VARIABLE, KEY_VARIABLE} == CLIENT_VARIABLES


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://", "x"])
def test_what_is_no_address_is_not_called(url: str) -> None:
    with pytest.raises(InvalidCall, match="is no address"):
        Client(url)


@pytest.mark.parametrize("key", ["a\nb", "clé"])
def test_a_key_that_cannot_be_sent_is_not_shown(key: str) -> None:
    with pytest.raises(InvalidCall) as error:
        Client(key=key)
    assert key not in str(error.value)


def test_what_cannot_be_read_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    def answer(request: httpx.Request) -> httpx.Response:
        raise AssertionError("nothing may be sent")

    with Client(transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(InvalidCall, match="No such file"):
            client.adapters.push("a", tmp_path / "missing")
        with pytest.raises(InvalidCall, match="holds no files"):
            client.adapters.push("a", tmp_path / "empty")
        for name in ("", ".", ".."):
            with pytest.raises(InvalidCall, match="is no name"):
                client.adapters.delete(name)


def fails(error: Exception) -> Client:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error

    return Client("http://nobody:1", transport=httpx.MockTransport(answer))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (httpx.ConnectError("refused"), "Nothing answers at http://nobody:1."),
        (httpx.ReadTimeout("slow"), "http://nobody:1 did not answer in time."),
        (httpx.ReadError("reset"), "The connection to http://nobody:1 broke."),
    ],
)
def test_no_answer_is_one_sentence(error: Exception, sentence: str) -> None:
    with fails(error) as client, pytest.raises(Unreachable) as raised:
        client.version()
    assert str(raised.value) == sentence


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(502, text="<html>Bad gateway</html>"),
        httpx.Response(200, text="<html>Welcome</html>"),
        httpx.Response(200, json={"status": "ok"}),
        httpx.Response(302, headers={"Location": "http://elsewhere/"}),
        httpx.Response(500, json={"error": "text"}),
        httpx.Response(500, json=["error"]),
    ],
)
def test_answers_of_others_are_told_from_the_servers(response: httpx.Response) -> None:
    with (
        Client(transport=httpx.MockTransport(lambda request: response)) as client,
        pytest.raises(UnexpectedAnswer),
    ):
        client.version()


def test_what_a_newer_server_adds_is_kept() -> None:
    body = {"name": "a", "version": None, "deleted": True, "new": 5}
    with Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=body))) as client:
        assert client.adapters.delete("a").model_dump() == body


OWN = {"etag"}
"""Fields that a result takes from headers."""


def test_what_results_need_is_what_the_server_documents(house: HouseApp) -> None:
    documented: dict[str, Any] = house.app().openapi()["components"]["schemas"]
    known = [kind for module in (access, adapters, reports) for kind in vars(module).values()]
    kinds = [kind for kind in known if is_result(kind)]
    assert len(kinds) > 10
    for kind in kinds:
        assert set(kind.model_fields) - OWN <= set(documented[kind.__name__]["properties"]), kind


def is_result(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Result) and kind is not Result
