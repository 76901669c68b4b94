"""A real server process on a free loopback port, with an environment of its own."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

ROOT = Path(__file__).resolve().parents[1]
KERNELS = Path(tempfile.gettempdir()) / "repertoire-test-kernels"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment_of(settings: Mapping[str, object]) -> dict[str, str]:
    """This process's, with these settings and no others."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("REPERTOIRE_")}
    return clean | {f"REPERTOIRE_{k.upper()}": str(v) for k, v in settings.items()}


def share_kernels(cache_dir: Path) -> None:
    """Compile what is native once for all servers of all tests: it takes seconds."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    KERNELS.mkdir(exist_ok=True)
    link = cache_dir / "native"
    if not link.exists():
        link.symlink_to(KERNELS)


class Server:
    def __init__(
        self, base: Path, work: Path, *, store: Path | None = None, **settings: object
    ) -> None:
        self.store = store or work / "store"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = work / f"server-{self.port}.log"
        self._settings: Mapping[str, object] = {
            "base_model": base,
            "adapters_store": self.store,
            "cache_dir": work / "cache",
            "port": self.port,
            "dtype": "float32",
            "kv_bytes": 64 << 20,
            "warm_compiler": False,
            "verify_uploads": False,
            **settings,
        }
        self.store.mkdir(parents=True, exist_ok=True)
        share_kernels(Path(str(self._settings["cache_dir"])))
        self._is_started = False

    def start(self) -> None:
        """So that several start at once; whoever enters it waits until it is ready."""
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service", "serve"],
                cwd=ROOT,
                env=environment_of(self._settings),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._is_started = True

    def __enter__(self) -> Self:
        if not self._is_started:
            self.start()
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise
        self.client = httpx.Client(base_url=self.url, timeout=120)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.terminate()

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=60)

    def complete(self, model: str, prompt: str | list[int], **fields: object) -> dict:
        body = {"model": model, "prompt": prompt, "temperature": 0, "max_tokens": 8} | fields
        response = self.client.post("/v1/completions", json=body)
        response.raise_for_status()
        answer: dict = response.json()
        return answer

    def upload(self, name: str, folder: Path) -> httpx.Response:
        files = [("files", (path.name, path.read_bytes())) for path in sorted(folder.iterdir())]
        return self.client.post("/v1/adapters", data={"name": name}, files=files)

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples of `name` whose labels include `labels`; there must be one."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        samples = [
            float(line.rsplit(" ", 1)[1])
            for line in self.client.get("/metrics").text.splitlines()
            if line.startswith((f"{name} ", f"{name}{{")) and all(one in line for one in wanted)
        ]
        assert samples, f"no metric {name} {labels}"
        return sum(samples)

    def _wait_until_ready(self) -> None:
        for _ in range(600):
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended:\n{self.log}")
            try:
                if httpx.get(f"{self.url}/ready", timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"the server does not become ready:\n{self.log}")
