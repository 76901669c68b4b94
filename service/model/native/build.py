"""Compiles a C++ file and its headers for this processor, once, into the cache folder.

Where there is no compiler, as in an image, it takes what was compiled beforehand for processors
that can do the same.
"""

import hashlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path

from service.model.native.targets import Target, targets

PREBUILT = Path(__file__).with_name("prebuilt")
"""What `python -m service.model.native.prebuild` fills."""

_HERE = ("-march=native",)
_FLAGS = (
    "-O3", "-fopenmp", "-shared", "-fPIC", "-std=c++17", "-fno-exceptions", "-nodefaultlibs",
)  # fmt: skip
"""Without exceptions nothing of the C++ library is needed, so `gcc` links it as well as `g++`:
peft makes that of CXX."""
_LIBRARIES = ("-lm", "-lc", "-lgcc")
"""No OpenMP runtime among them: `openmp.py` says whose it is."""
_TIMEOUT_S = 120


class BuildFailed(Exception):
    """Says why in one line; the torch twins do the same work."""


def build_library(source: Path, folder: Path, prebuilt: Path = PREBUILT) -> Path:
    """The shared library, from the cache when source, compiler and processor are the same."""
    compiler = _compiler()
    if compiler is None:
        return _find_prebuilt(source, prebuilt)
    identity = (_version(compiler), " ".join(sorted(processor())), *_HERE)
    library = folder / _file_name(source, identity)
    if not library.exists():
        _compile(compiler, _HERE, source, library)
    return library


def prebuild_library(source: Path, folder: Path) -> list[Path]:
    """One for every sort of processor that machines like this one have."""
    compiler = _compiler()
    if compiler is None:
        raise BuildFailed("there is no C++ compiler")
    libraries = []
    for target in targets():
        library = _prebuilt(source, folder, target)
        _compile(compiler, target.flags, source, library)
        libraries.append(library)
    return libraries


def _find_prebuilt(source: Path, folder: Path) -> Path:
    can = processor()
    for target in targets():
        library = _prebuilt(source, folder, target)
        if target.needs <= can and library.exists():
            return library
    raise BuildFailed("there is no C++ compiler, and nothing prebuilt for this processor")


def _prebuilt(source: Path, folder: Path, target: Target) -> Path:
    return folder / _file_name(source, (target.name,))


def _file_name(source: Path, identity: Sequence[str]) -> str:
    """Another one when anything differs that the library is made of."""
    texts = [one.read_text() for one in (source, *sorted(source.parent.glob("*.h")))]
    parts = "\n".join((*texts, *identity, *_FLAGS, *_LIBRARIES))
    digest = hashlib.sha256(parts.encode()).hexdigest()
    return f"{source.stem}-{digest[:16]}.so"


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CXX") or "c++")


def _compile(compiler: str, machine: Sequence[str], source: Path, target: Path) -> None:
    draft = target.with_name(f"{uuid.uuid4().hex}.so")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        done = _run([compiler, *_FLAGS, *machine, "-o", str(draft), str(source), *_LIBRARIES])
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


def processor() -> frozenset[str]:
    """The instruction sets that `-march=native` stands for."""
    flags = Path("/proc/cpuinfo")
    lines = flags.read_text().splitlines() if flags.exists() else []
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(found.split())


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildFailed(f"{command[0]} does not run") from error
