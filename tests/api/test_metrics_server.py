"""`/metrics` on a port of its own."""

import socket
import threading
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.__main__ import main
from service.cli.parser import parse_command_line
from service.errors import ConfigurationError
from tests.api.conftest import World, serve, wait_until
from tests.server import free_port


def test_with_a_port_of_its_own_it_is_there_and_nowhere_else(world: World) -> None:
    port = free_port()
    world.settings = {"metrics_port": port, "api_key": "secret"}
    with serve(world.app()) as url:
        found = httpx.get(f"http://127.0.0.1:{port}/metrics")
        assert found.status_code == 200
        names = {one.name for one in text_string_to_metric_families(found.text)}
        assert {"repertoire_requests", "repertoire_num_requests_running"} <= names
        headers = {"Authorization": "Bearer secret"}
        main_port = httpx.get(f"{url}/metrics", headers=headers)
        unknown = httpx.get(f"{url}/nothing", headers=headers)
        assert (main_port.status_code, main_port.text) == (404, unknown.text)
        assert "/metrics" not in httpx.get(f"{url}/openapi.json", headers=headers).json()["paths"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/metrics")
    with serve(world.app()):
        assert httpx.get(f"http://127.0.0.1:{port}/metrics").status_code == 200


def test_it_answers_while_the_event_loop_is_busy(world: World) -> None:
    port = free_port()
    world.settings = {"metrics_port": port}
    app = world.app()
    is_busy: list[bool] = []

    @app.get("/block")
    async def block() -> None:
        is_busy.append(True)
        wait_until(lambda: len(is_busy) > 1)

    with serve(app) as url, httpx.Client() as client:
        blocked = threading.Thread(target=client.get, args=(f"{url}/block",))
        blocked.start()
        wait_until(lambda: bool(is_busy))
        assert httpx.get(f"http://127.0.0.1:{port}/metrics").status_code == 200
        is_busy.append(False)
        blocked.join(timeout=5)


def test_a_port_that_is_taken_is_said_before_the_base_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        given = ["--base-model", str(tmp_path / "no-such-base"), "--port", str(free_port())]
        assert main(["serve", *given, "--metrics-port", str(port)]) == 2
    assert f"--metrics-port: cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


def test_both_on_one_port_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="--metrics-port: must differ from --port"):
        parse_command_line(["serve", "--base-model", "x", "--metrics-port", "8000"])


def test_a_kubernetes_service_link_is_no_metrics_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPERTOIRE_METRICS_PORT", "tcp://10.0.0.1:9090")
    settings = parse_command_line(["serve", "--base-model", "x"])
    assert getattr(settings, "metrics_port", 0) is None
