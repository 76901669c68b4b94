"""Processors that a library can be compiled for on another machine, as for an image."""

import platform
from dataclasses import dataclass

_V3 = frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"})
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    flags: tuple[str, ...]
    """Of the compiler."""
    needs: frozenset[str]
    """What `/proc/cpuinfo` says of a processor that can run it."""


_TARGETS = {
    "x86_64": (
        Target("x86-64-v4-bf16", ("-march=x86-64-v4", "-mavx512bf16"), _V4 | {"avx512_bf16"}),
        Target("x86-64-v4", ("-march=x86-64-v4",), _V4),
        Target("x86-64-v3", ("-march=x86-64-v3",), _V3),
    ),
    "aarch64": (Target("armv8-a", ("-march=armv8-a",), frozenset({"asimd"})),),
}


def targets() -> tuple[Target, ...]:
    """Of machines like this one, the fastest first."""
    return _TARGETS.get(platform.machine(), ())
