"""The process that reads uploads with peft: whatever happens to it or to its forks is an answer."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import IA3Config, get_peft_model
from transformers import AutoModelForCausalLM

from service.adapters.limits import AdapterLimits
from service.base import BaseDescription
from service.compiler.compile_server import CompileServer
from service.compiler.launcher import ChildCompiler
from service.errors import AdapterRefused
from tests.adapters.tiny_base import TinyBase, make_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> TinyBase:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def ia3(base: TinyBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ia3")
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    config = IA3Config(target_modules=["k_proj"], feedforward_modules=[], task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_()
    adapted.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server(base: TinyBase) -> Iterator[CompileServer]:
    running = CompileServer(Path(base.description.folder))
    yield running
    running.close()


def compile_with(
    server: CompileServer, description: BaseDescription, folder: Path, work: Path, **limits: float
) -> str:
    """The code of the refusal, or the kind of what came out."""
    work.mkdir()
    compiler = ChildCompiler(description, AdapterLimits(**limits), server)
    try:
        return compiler.compile(folder, work).manifest.kind
    except AdapterRefused as error:
        return error.refusals[0].code


def test_jobs_leave_no_trace_in_the_server(
    server: CompileServer, base: TinyBase, ia3: Path, tmp_path: Path
) -> None:
    first, second = (
        compile_with(server, base.description, ia3, tmp_path / name) for name in ("a", "b")
    )
    assert first == second == "ia3"
    assert (tmp_path / "a" / "compiled").read_bytes() == (tmp_path / "b" / "compiled").read_bytes()


def test_the_store_may_lie_in_a_folder_with_spaces_in_its_name(
    server: CompileServer, base: TinyBase, ia3: Path, tmp_path: Path
) -> None:
    work = tmp_path / "my  store\n\u00e4"
    assert compile_with(server, base.description, ia3, work) == "ia3"


def test_a_job_without_memory_harms_no_other(
    server: CompileServer, base: TinyBase, ia3: Path, tmp_path: Path
) -> None:
    narrow = compile_with(
        server, base.description, ia3, tmp_path / "a", compile_memory_bytes=1 << 16
    )
    assert narrow in ("too_expensive", "compile_failed")
    assert compile_with(server, base.description, ia3, tmp_path / "b") == "ia3"


def test_a_server_that_dies_during_a_job_is_a_refusal(
    server: CompileServer, base: TinyBase, ia3: Path, tmp_path: Path
) -> None:
    server.start()
    process = server._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    found: list[str] = []
    job = threading.Thread(
        target=lambda: found.append(compile_with(server, base.description, ia3, tmp_path / "a"))
    )
    job.start()
    reply = tmp_path / "a" / "result.json"
    # The child that only looks at the upload writes it; it goes when the server is asked.
    for is_there in (True, False):
        while reply.exists() is not is_there:
            time.sleep(0.001)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGKILL)
    job.join(timeout=30)
    assert found == ["too_expensive"]
    assert compile_with(server, base.description, ia3, tmp_path / "b") == "ia3"


def test_a_server_that_hangs_is_given_up(
    server: CompileServer, base: TinyBase, ia3: Path, tmp_path: Path
) -> None:
    server.start()
    process = server._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    code = compile_with(server, base.description, ia3, tmp_path / "a", compile_timeout_s=1)
    assert code == "too_expensive"
    assert time.monotonic() - started < 30
    assert process.poll() is not None
    assert compile_with(server, base.description, ia3, tmp_path / "b") == "ia3"


def test_a_base_that_cannot_be_loaded_is_a_refusal(
    base: TinyBase, ia3: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    server = CompileServer(tmp_path / "empty")
    description = replace(base.description)
    assert compile_with(server, description, ia3, tmp_path / "a") == "compile_failed"
    server.close()


def test_it_ends_with_its_parent(base: TinyBase, tmp_path: Path) -> None:
    """Its parent is killed; nothing tells it but the parent's absence."""
    import subprocess
    import sys

    from service.compiler.child_environment import child_environment

    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from service.compiler.compile_server import CompileServer\n"
        "server = CompileServer(Path(sys.argv[1]))\nserver.start()\n"
        "print(server._process.pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, base.description.folder],
        stdout=subprocess.PIPE,
        env=child_environment(),
        text=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not _is_alive(pid):
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("the compile server outlives its parent")


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
