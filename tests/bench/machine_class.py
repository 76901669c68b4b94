"""What a figure was measured on: the class of the machine, never its name."""

import os
from pathlib import Path

_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")

CLASSES = {
    "amx": "AMX",
    "avx512-bf16": "AVX512 with bf16, no AMX",
    "avx512": "AVX512, no bf16",
    "avx2": "AVX2",
    "other": "none of AVX2, AVX512, AMX",
}
"""By what decides the speed of a processor here, fastest first."""


def machine_class() -> str:
    fields = _processor()
    flags = set(fields.get("flags", "").split())
    shown = ", ".join(flag for flag in _FLAGS if flag in flags) or CLASSES["other"]
    cores = len(os.sched_getaffinity(0))
    return f"{fields.get('model name', 'unknown processor')}, {cores} cores, {shown}"


def instruction_class() -> str:
    """One of `CLASSES`."""
    return class_of(set(_processor().get("flags", "").split()))


def class_of(flags: set[str]) -> str:
    needed = {"amx": "amx_bf16", "avx512-bf16": "avx512_bf16", "avx512": "avx512f", "avx2": "avx2"}
    return next((name for name, flag in needed.items() if flag in flags), "other")


def _processor() -> dict[str, str]:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}
