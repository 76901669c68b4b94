"""What the compiler's children see of the environment: nothing is inherited, it may hold keys."""

from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def child_environment() -> dict[str, str]:
    return {
        "PYTHONPATH": str(_ROOT),
        "LC_ALL": "C.UTF-8",
        "HF_HUB_OFFLINE": "1",
        **dict.fromkeys(_THREAD_VARIABLES, "1"),
    }
