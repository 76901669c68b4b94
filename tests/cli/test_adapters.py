"""`adapters …` against the application on a port: what is printed where, and the exit status."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.__main__ import main
from service.client import Client
from tests.cli.line import Line

Loras = Callable[[int], Path]


def test_push_says_what_it_has_become(line: Line, lora: Loras) -> None:
    text = line("adapters", "push", lora(1), "--name", "a")
    assert text.startswith("a is now version 1\n")
    assert "q_proj, v_proj" in text
    assert "unused files    README.md" in text
    text = line("adapters", "push", lora(1), "--name", "a")
    assert text.startswith("a already was version 1\n")
    made = json.loads(line("adapters", "push", lora(2), "--name", "a", "--json"))
    assert (made["object"], made["version"], made["created"]) == ("adapter.version", 2, True)


def test_pointers_are_moved_and_shown(line: Line, lora: Loras) -> None:
    for seed in (1, 2):
        line("adapters", "push", lora(seed), "--name", "a")
    text = line("adapters", "alias", "a", "stable=1", "canary=1:95,2:5", "--current", "1")
    assert text.startswith("a is at version 1\n")
    assert "canary=1:95/2:5, stable=1" in text
    line("adapters", "alias", "a", "canary=")
    shown = json.loads(line("adapters", "show", "a", "--json"))
    assert shown["aliases"] == {"stable": 1}
    assert [one["version"] for one in shown["versions"]] == [1, 2]
    back = line("adapters", "rollback", "a", "--if-match", shown["etag"])
    assert back.startswith("a is at version 2\n")
    stale = line("adapters", "rollback", "a", "--if-match", shown["etag"], status=1)
    assert stale.startswith("repertoire: ")
    assert stale.count("\n") == 1


@pytest.mark.parametrize("wrong", ["stable", "=1", "stable=x", "stable=1:x", "stable=1:2:3"])
def test_an_alias_that_cannot_be_read_is_told(line: Line, wrong: str) -> None:
    text = line("adapters", "alias", "a", wrong, status=2)
    assert repr(wrong) in text


def test_a_listing_is_a_table_or_a_json_array(line: Line, lora: Loras) -> None:
    assert json.loads(line("adapters", "list", "--json")) == []
    for name in ("b", "a" * 100):
        line("adapters", "push", lora(1), "--name", name)
    head, *rows = line("adapters", "list").splitlines()
    assert head.split() == ["NAME", "VERSION", "KIND", "RANK", "SIZE", "TIER", "STATE", "ALIASES"]
    assert [row.split()[:3] for row in rows] == [["a" * 100, "1", "lora"], ["b", "1", "lora"]]
    listed = json.loads(line("adapters", "list", "--json"))
    assert [one["name"] for one in listed] == ["a" * 100, "b"]


def test_what_is_deleted_comes_back(line: Line, lora: Loras) -> None:
    for seed in (1, 2):
        line("adapters", "push", lora(seed), "--name", "a")
    assert line("adapters", "rm", "a@1").startswith("a@1 is deleted")
    text = line("adapters", "rm", "a@2", status=1)
    assert "current" in text
    assert "RECOVERABLE UNTIL" in line("adapters", "show", "a")
    line("adapters", "restore", "a@1")
    line("adapters", "rm", "a")
    assert line("adapters", "list", "--deleted").splitlines()[1].startswith("a ")
    assert line("adapters", "gc", "--dry-run").startswith("0 versions would be gone for good\n")
    assert json.loads(line("adapters", "gc", "--json"))["versions"] == []
    assert line("adapters", "restore", "a").startswith("a is at version 2\n")
    assert "neither NAME nor" in line("adapters", "restore", "a@stable", status=2)


def test_a_name_is_pinned_and_ends_by_itself(line: Line, lora: Loras) -> None:
    line("adapters", "push", lora(1), "--name", "a", "--ttl", "7d")
    shown = json.loads(line("adapters", "pin", "a", "--json"))
    in_a_week = time.time() + 7 * 86_400
    assert shown["pinned"]
    assert in_a_week - 60 <= shown["expires_at"] <= in_a_week + 1
    text = line("adapters", "show", "a")
    assert "pinned          yes" in text
    assert "expires         20" in text
    assert not json.loads(line("adapters", "pin", "a", "--off", "--json"))["pinned"]
    assert json.loads(line("adapters", "expire", "a", "--never", "--json"))["expires_at"] is None
    later = json.loads(line("adapters", "expire", "a", "--after", "2h", "--json"))["expires_at"]
    assert later <= time.time() + 7201
    assert "required" in line("adapters", "expire", "a", status=2)


def test_a_version_is_warmed(line: Line, lora: Loras) -> None:
    line("adapters", "push", lora(1), "--name", "a")
    text = line("adapters", "warm", "a@1", "--timeout", "5")
    assert text.startswith("a@1 is in host memory after ")
    warmed = json.loads(line("adapters", "warm", "a", "--tier", "device", "--json"))
    assert (warmed["name"], warmed["version"], warmed["tier"]) == ("a", 1, "device")
    assert "does not exist" in line("adapters", "warm", "b", status=1)


def test_what_is_not_there_is_told(line: Line) -> None:
    text = line("adapters", "rm", "a", status=1)
    assert text == "repertoire: The adapter 'a' does not exist.\n"
    error = json.loads(line("adapters", "show", "a", "--json", status=1))["error"]
    assert (error["status"], error["code"], error["reasons"]) == (404, "adapter_not_found", [])


def test_a_refusal_lists_every_reason(line: Line, lora: Loras, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(lora(1), folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    config |= {"new\x1b[31m[red]": True, "lora_alpha": "x"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    text = line("adapters", "push", folder, "--name", "a", status=1)
    first, *reasons = text.splitlines()
    assert first == "repertoire: it is refused:"
    assert len(reasons) >= 2
    assert any("(lora_alpha)" in reason for reason in reasons)
    assert any(r"new\x1b[31m[red]" in reason for reason in reasons)
    assert "\x1b" not in text


def test_no_answer_and_no_file_are_told_apart_from_a_refusal(
    line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "No such file" in line("adapters", "push", tmp_path / "x", "--name", "a", status=2)
    assert main(["adapters", "list", "--url", "http://127.0.0.1:1"]) == 2
    assert capsys.readouterr().err == "repertoire: Nothing answers at http://127.0.0.1:1.\n"


def test_progress_is_for_terminals(
    line: Line, lora: Loras, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("service.cli.progress.sys.stderr.isatty", lambda: True)
    assert main(["adapters", "push", str(lora(1)), "--name", "a", "--url", line.url]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("a is now version 1\n")
    assert "checking a" in err
    assert "a is now" not in err


@pytest.mark.parametrize(("verdict", "status"), [("exact", 0), ("differs", 1)])
def test_a_verdict_is_the_exit_status(
    verdict: str, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body = {
        "name": "a", "version": 3, "digest": "sha256:00", "verdict": verdict, "dtype": "float32",
        "max_logit_difference": 2e-6, "base_difference": 0.0, "tolerance": 1e-4, "positions": 96,
        "checked_at": 5,
    }  # fmt: skip

    def answer(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.raw_path) == ("POST", b"/v1/adapters/a@3/verify")
        return httpx.Response(200, json=body)

    transport = httpx.MockTransport(answer)
    monkeypatch.setattr(
        "service.cli.operate.Client", lambda url, key: Client(url, key, transport=transport)
    )
    assert main(["adapters", "verify", "a@3"]) == status
    expected = (
        f"a@3: {verdict}, logits differ by 2e-06 where 0.0001 is allowed (float32, 96 positions)\n"
    )
    assert capsys.readouterr().out == expected
