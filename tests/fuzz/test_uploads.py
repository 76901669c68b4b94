"""Headers, configs and archives that are wrong in every way that a seed can think of.

No crash, no hang, nothing written outside, memory bounded. What ever failed lies in `corpus/`, by
target, and is tried first.
"""

import hashlib
import io
import os
import random
import resource
import shutil
import signal
import tarfile
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from service.adapters.files import CONFIG, WEIGHTS
from service.compiler.launcher import ChildCompiler
from service.errors import AdapterRefused, UploadTooLarge
from tests.fuzz.cases import NUM_CASES, report
from tests.fuzz.targets import BASE, FOLDER, LIMITS, TARGETS, reason

CORPUS = Path(__file__).parent / "corpus"
SECONDS = 10.0
"""For one case; the slowest takes a few hundredths."""
MAX_GROWTH_KIB = 256 << 10

pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")

LONG = pytest.param(NUM_CASES, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])


class Hang(BaseException):
    """No handler of the code under test may take it for an error of its own."""


@contextmanager
def time_limit() -> Iterator[None]:
    def end(number: int, frame: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Outside:
    """Canaries around the work folder, and the folder that a relative path would begin in."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.work = root / "a" / "b" / "work"
        self.work.parent.mkdir(parents=True)
        for place in (root, root / "a", root / "a" / "b"):
            (place / "canary").write_text("alive")
        monkeypatch.chdir(root / "a")
        self._before = self._look()

    def fresh(self) -> Path:
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        return self.work

    def check(self) -> None:
        assert self._look() == self._before

    def _look(self) -> dict[str, str]:
        return {
            str(path): path.read_text() if path.is_file() else "folder"
            for path in self.root.rglob("*")
            if self.work not in (path, *path.parents)
        }


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outside:
    return Outside(tmp_path, monkeypatch)


SHORT = [pytest.param(name, target.num_cases) for name, target in TARGETS.items()]


@pytest.mark.parametrize(
    ("name", "num_cases"),
    [*SHORT, *(pytest.param(name, *LONG.values, marks=LONG.marks) for name in TARGETS)],
)
def test_wrong_input_is_an_answer(name: str, num_cases: int, outside: Outside) -> None:
    target, outcomes, findings = TARGETS[name], Counter[str](), list[str]()
    memory = peak_kib()
    for number in range(num_cases):
        data = target.make(random.Random(f"{name} {number}"))
        try:
            with time_limit():
                outcomes[target.run(data, outside.fresh())] += 1
        except (Exception, Hang):
            outcomes["FAILED"] += 1
            findings.append(f"case {number}: {traceback.format_exc(limit=-3)}")
            keep(name, data)
    report(name, outcomes)
    assert not findings, f"{len(findings)} of {num_cases}; the first:\n" + "\n".join(findings[:3])
    outside.check()
    assert peak_kib() - memory < MAX_GROWTH_KIB
    assert len(outcomes) > 1 or num_cases < 50, "the cases are all alike"


@pytest.mark.parametrize(
    "path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_what_once_failed_does_not_fail_again(path: Path, outside: Outside) -> None:
    with time_limit():
        TARGETS[path.parent.name].run(path.read_bytes(), outside.fresh())
    outside.check()


@pytest.mark.parametrize("name", ["header", "config"])
def test_the_cases_can_be_right(name: str, outside: Outside) -> None:
    """What is mutated passes as it is."""
    right = {"header": (FOLDER[WEIGHTS], "read"), "config": (FOLDER[CONFIG], "compiled")}
    data, outcome = right[name]
    assert TARGETS[name].run(data, outside.fresh()) == outcome


@pytest.mark.parametrize("num_cases", [6, pytest.param(max(6, NUM_CASES // 20), marks=LONG.marks)])
def test_the_child_answers_what_this_process_answers(num_cases: int, outside: Outside) -> None:
    """A sample through the real child: with its limits, its file names, its pipes."""
    compiler = ChildCompiler(BASE, replace(LIMITS, compile_memory_bytes=MAX_GROWTH_KIB << 10))
    outcomes: Counter[str] = Counter()
    for number in range(num_cases):
        draw = random.Random(f"child {number}")
        work = outside.fresh()
        source = work / "source"
        if number % 2:
            source.write_bytes(TARGETS["archive"].make(draw))
        else:
            source.mkdir()
            weights = draw.choice(
                (FOLDER["adapter_model.safetensors"], TARGETS["header"].make(draw))
            )
            (source / "adapter_model.safetensors").write_bytes(weights)
            (source / "adapter_config.json").write_bytes(TARGETS["config"].make(draw))
        inner = work / "work"
        inner.mkdir()
        try:
            with time_limit():
                compiler.compile(source, inner)
            outcomes["compiled"] += 1
        except AdapterRefused as error:
            outcomes[reason(error)] += 1
        except UploadTooLarge:
            outcomes["too large"] += 1
    report("child", outcomes)
    assert not outcomes["compile_failed"], "a child broke"
    assert not outcomes["too_expensive"], "a small upload needs little time and memory"
    outside.check()


def many_folders_zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(2000):
            archive.writestr(f"{number}/", b"")
    return packed.getvalue()


def many_folders_tar() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for number in range(2000):
            info = tarfile.TarInfo(f"{number}/")
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
    return packed.getvalue()


@pytest.mark.parametrize("make", [many_folders_zip, many_folders_tar])
def test_folders_are_counted_too(make: Callable[[], bytes], outside: Outside) -> None:
    assert TARGETS["archive"].run(make(), outside.fresh()) == "too large"


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def keep(name: str, data: bytes) -> None:
    """For the corpus, if whoever asked for more cases wants it there."""
    if "FUZZ_KEEP" in os.environ:
        folder = CORPUS / name
        folder.mkdir(exist_ok=True)
        (folder / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)
