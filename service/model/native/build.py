"""Compiles a C++ file and its headers for this processor, once, into the cache folder."""

import hashlib
import os
import shutil
import subprocess
import uuid
from pathlib import Path

_FLAGS = (
    "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-std=c++17", "-fno-exceptions",
)  # fmt: skip
"""Without exceptions nothing of the C++ library is needed, so `gcc` links it as well as `g++`:
peft makes that of CXX."""
_TIMEOUT_S = 120


class BuildFailed(Exception):
    """Says why in one line; the torch twins do the same work."""


def build_library(source: Path, folder: Path) -> Path:
    """The shared library, from the cache when source, compiler and processor are the same."""
    compiler = shutil.which(os.environ.get("CXX") or "c++")
    if compiler is None:
        raise BuildFailed("there is no C++ compiler")
    texts = [one.read_text() for one in (source, *sorted(source.parent.glob("*.h")))]
    identity = "\n".join((*texts, _version(compiler), _processor(), *_FLAGS))
    target = folder / f"{source.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    if not target.exists():
        _compile(compiler, source, target)
    return target


def _compile(compiler: str, source: Path, target: Path) -> None:
    draft = target.with_name(f"{uuid.uuid4().hex}.so")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        done = _run([compiler, *_FLAGS, "-o", str(draft), str(source), "-lm"])
        if done.returncode != 0:
            raise BuildFailed(done.stderr.strip().splitlines()[0] if done.stderr else "no reason")
        # In one rename, so that a process that starts at the same time never loads half of it.
        draft.replace(target)
    except OSError as error:
        raise BuildFailed(str(error)) from error
    finally:
        draft.unlink(missing_ok=True)


def _version(compiler: str) -> str:
    return _run([compiler, "--version"]).stdout


def _processor() -> str:
    """The instruction sets that `-march=native` stands for, whose order may differ by core."""
    flags = Path("/proc/cpuinfo")
    lines = flags.read_text().splitlines() if flags.exists() else []
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return " ".join(sorted(found.split()))


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildFailed(f"{command[0]} does not run") from error
