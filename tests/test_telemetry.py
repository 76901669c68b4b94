"""Logs say nothing of what users write."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from service.telemetry import RequestRecord, configure_logging


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """The handler holds the test's own stderr, which is closed afterwards."""
    yield
    logging.getLogger().handlers.clear()


def test_json_lines_carry_the_request(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    with structlog.contextvars.bound_contextvars(request_id="r1", adapter="alpha", version=3):
        structlog.get_logger("x").info("hello", number=5)
        logging.getLogger("uvicorn.error").warning("from a library")
    own, foreign = map(json.loads, capsys.readouterr().err.splitlines())
    assert own["event"] == "hello"
    assert own["number"] == 5
    assert foreign["event"] == "from a library"
    for line in (own, foreign):
        assert line["request_id"] == "r1"
        assert line["adapter"] == "alpha"
        assert line["version"] == 3
        assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_exception_is_logged_without_the_values_around_it(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Locals of a frame may hold a prompt, and pretty tracebacks show them."""
    configure_logging("info", log_format)  # type: ignore[arg-type]

    def fail(secret_prompt: str) -> None:
        raise ValueError("broken")

    try:
        fail("my secret" + " words")
    except ValueError:
        structlog.get_logger("x").exception("failed")
    shown = capsys.readouterr().err
    assert "ValueError: broken" in shown
    assert "my secret words" not in shown


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning", "console")
    structlog.get_logger("x").info("quiet")
    assert capsys.readouterr().err == ""


def test_a_record_shows_what_is_known() -> None:
    record = RequestRecord("r1", model="tiny", num_prompt_tokens=0)
    assert record.fields() == {"model": "tiny", "prompt_tokens": 0}


def test_a_logger_that_was_used_follows_what_is_configured_later() -> None:
    configure_logging("warning", "json")
    used = structlog.get_logger("x")
    used.warning("before")
    configure_logging("warning", "json")
    with structlog.testing.capture_logs() as lines:
        used.warning("after")
    assert [line["event"] for line in lines] == ["after"]
