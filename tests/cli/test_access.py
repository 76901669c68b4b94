"""`keys …`, `tenants …` and `status` against the application on a port."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.client import Client
from service.client.client import KEY_VARIABLE
from tests.cli.line import Line
from tests.client.house_app import HouseApp

OPERATOR = "the-operators-key"


@pytest.fixture
def house(house: HouseApp, monkeypatch: pytest.MonkeyPatch) -> HouseApp:
    house.settings = {"api_key": OPERATOR}
    monkeypatch.setenv(KEY_VARIABLE, OPERATOR)
    return house


def test_a_key_is_made_used_listed_and_revoked(line: Line, lora: Callable[[int], Path]) -> None:
    line("tenants", "create", "team-a")
    make = ("keys", "create", "--tenant", "team-a", "--role", "publish", "--label", "ci")
    text = line(*make, "--expires-in", "90d")
    assert text.startswith("The secret is shown this once:\n  secret")
    made = json.loads(line(*make, "--min-priority", "3", "--json"))
    assert (made["tenant"], made["role"], made["label"]) == ("team-a", "publish", "ci")
    assert (made["expires_at"], made["min_priority"]) == (None, 3)
    listed = line("keys", "list", "--tenant", "team-a")
    assert made["id"] in listed
    assert made["secret"] not in listed
    line("adapters", "list", "--key", made["secret"])
    denied = line("keys", "list", "--key", made["secret"], status=1)
    assert denied.startswith("repertoire: ")
    line("keys", "revoke", made["id"])
    line("adapters", "list", "--key", made["secret"], status=1)
    assert [one["label"] for one in json.loads(line("keys", "list", "--json"))] == []


def test_an_adapter_is_seen_by_those_it_is_shared_with(
    line: Line, lora: Callable[[int], Path]
) -> None:
    for tenant in ("team-a", "team-b"):
        line("tenants", "create", tenant)
    theirs, others = (
        json.loads(line("keys", "create", "--role", "publish", "--tenant", tenant, "--json"))
        for tenant in ("team-a", "team-b")
    )
    line("adapters", "push", lora(1), "--name", "team-a/x")
    assert line("adapters", "list", "--tenant", "team-a").splitlines()[1].startswith("x ")
    assert len(line("adapters", "list").splitlines()) == 1
    own = json.loads(line("adapters", "show", "x", "--json", "--key", theirs["secret"]))
    assert (own["name"], own["tenant"], own["visibility"]) == ("x", "team-a", "private")
    line("adapters", "push", lora(1), "--name", "team-a/y", "--public")
    assert "visibility      public" in line("adapters", "show", "team-a/y")
    show = ("adapters", "show", "team-a/x")
    assert "does not exist" in line(*show, "--key", others["secret"], status=1)
    shared = line("adapters", "share", "team-a/x", "--with", "team-b,team-c")
    assert "shared with team-b, team-c" in shared
    assert "x is at version 1" in line(*show, "--key", others["secret"])
    line("adapters", "share", "x", "--public", "--key", theirs["secret"])
    assert "visibility      public" in line(*show)
    line("adapters", "share", "team-a/x", "--private")
    assert "does not exist" in line(*show, "--key", others["secret"], status=1)
    line("adapters", "rm", "team-a/x@1", status=1)
    line("adapters", "rm", "team-a/x")


@pytest.mark.parametrize("wrong", ["90", "0d", "1y", "-1d", "1.5d", ""])
def test_a_duration_has_a_unit(line: Line, wrong: str) -> None:
    text = line("keys", "create", "--role", "use", f"--expires-in={wrong}", status=2)
    assert repr(wrong) in text


def test_tenants_are_made_limited_and_deleted(line: Line) -> None:
    assert "the server's defaults" in line("tenants", "create", "team-a")
    limits = ("--requests-per-minute", "60", "--max-adapters", "5")
    text = line("tenants", "limits", "team-a", *limits)
    assert "requests_per_minute=60, max_adapters=5" in text
    shown = json.loads(line("tenants", "show", "team-a", "--json"))["limits"]
    assert (shown["requests_per_minute"], shown["tokens_per_minute"]) == (60, None)
    assert "unlimited" in line("tenants", "limits", "team-a", "--unlimited")
    assert "the server's defaults" in line("tenants", "limits", "team-a")
    rows = line("tenants", "list").splitlines()
    assert any(row.startswith("team-a ") for row in rows[1:])
    line("tenants", "rm", "team-a")
    assert "team-a" in line("tenants", "show", "team-a", status=1)


def test_who_changed_what_is_listed_page_by_page(line: Line) -> None:
    line("tenants", "create", "team-a")
    line("tenants", "limits", "team-a", "--max-adapters", "5")
    made = json.loads(line("keys", "create", "--role", "use", "--tenant", "team-a", "--json"))
    head, *rows = line("audit").splitlines()
    assert head.split() == ["AT", "BY", "ACTION", "TENANT", "TARGET", "CHANGE"]
    assert len(rows) == 3
    assert "default/settings" in rows[0]
    assert "max_adapters" in rows[1]
    assert made["id"] in rows[2]
    records = json.loads(line("audit", "--tenant", "team-a", "--json"))
    assert [one["action"] for one in records][-1] == "key.create"
    assert len({one["request_id"] for one in records}) == len(records)
    assert len(line("audit", "--to", "2020-01-01").splitlines()) == 1, "the head alone"
    with Client(line.url, OPERATOR) as client:
        assert [one.id for one in client.audit(page_size=1)] == [one.id for one in client.audit()]


def test_usage_is_told_apart_as_asked(line: Line, lora: Callable[[int], Path]) -> None:
    line("adapters", "push", lora(1), "--name", "a")
    for model in ("a", "a", "tiny-base"):
        body = {"model": model, "prompt": [5, 6, 7], "max_tokens": 4}
        headers = {"Authorization": f"Bearer {OPERATOR}"}
        assert httpx.post(f"{line.url}/v1/completions", json=body, headers=headers).is_success
    by_tenant = json.loads(line("usage", "--json"))
    assert [(one["tenant"], one["requests"], one["prompt_tokens"]) for one in by_tenant] == [
        ("default", 3, 9)
    ]
    head, first, second, total = line("usage", "--by", "version").splitlines()
    assert head.split()[:3] == ["ADAPTER", "VERSION", "REQUESTS"]
    assert first.split()[:3] == ["a", "1", "2"]
    assert second.split()[:3] == ["tiny-base", "-", "1"]
    assert total.split()[:2] == ["total", "3"]
    by_day = json.loads(line("usage", "--by", "day", "--tenant", "default", "--json"))
    assert len(by_day) == 1
    assert len(by_day[0]["day"]) == len("2026-03-05")
    with Client(line.url, OPERATOR) as client:
        pages = [one.id for one in client.usage(group_by=["adapter"], page_size=1)]
    assert len(set(pages)) == 2


@pytest.mark.parametrize("wrong", ["yesterday", "2026-13-01", "1.1.2026"])
def test_a_day_is_written_like_a_date(line: Line, wrong: str) -> None:
    assert repr(wrong) in line("audit", "--from", wrong, status=2)


def test_the_status_says_what_runs(line: Line) -> None:
    assert line("status").startswith("tiny-base is ready\n")
    shown = json.loads(line("status", "--json"))
    assert (shown["status"], shown["model"], shown["dtype"]) == ("ready", "tiny-base", "float32")
