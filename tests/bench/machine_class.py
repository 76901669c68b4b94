"""What a figure was measured on: the class of the machine, never its name."""

import os
from pathlib import Path

_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def machine_class() -> str:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(
        (part.strip() for part in line.split(":", 1)) for line in text.splitlines() if ":" in line
    )
    flags = set(fields.get("flags", "").split())
    shown = ", ".join(flag for flag in _FLAGS if flag in flags) or "none of AVX2, AVX512, AMX"
    cores = len(os.sched_getaffinity(0))
    return f"{fields.get('model name', 'unknown processor')}, {cores} cores, {shown}"
