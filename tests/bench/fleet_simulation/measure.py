"""Measures what the simulation assumes, and writes `measured.json`:

    python -m tests.bench.fleet_simulation.measure

The real engine runs steps of known composition, one thread, on a random Llama (profile `cpu`) and
on the demo base as `make fleet` sets it up (`demo`). The machine may have other things to do, so
what counts is the time of the thread, and of many repetitions the fastest.
"""

import json
import tempfile
from pathlib import Path
from shutil import copytree

import torch

from service.model.loader import LoadOptions, load_base
from tests.bench.fleet_simulation.fit import Sample, fit
from tests.bench.fleet_simulation.profile import MEASURED, LoadCost, StepCost, as_costs
from tests.bench.fleet_simulation.stopwatch import Stopwatch
from tests.bench.machine_class import machine_class
from tests.bench.random_llama import STANDARD, make_adapter, make_base
from tests.fleet.answers import SMALL_TASKS
from tests.server import ROOT

NUM_ADAPTERS = 64
_RANK = 4
DECODING = ((1, 1), (2, 2), (4, 1), (4, 4), (8, 2), (8, 8), (16, 1), (16, 16), (32, 8), (32, 32))
"""(sequences, adapters among them)"""
PROMPTS = (16, 32, 64, 128)
"""Rows of a step that computes one prompt beside as many decoding sequences as these:"""
BESIDE = (0, 4, 16)


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        profiles = {"cpu": _random_llama(work / "cpu"), "demo": _demo(work / "demo")}
    body = {
        "machine": machine_class(),
        "command": "python -m tests.bench.fleet_simulation.measure",
        "profiles": profiles,
    }
    MEASURED.write_text(json.dumps(body, indent=2) + "\n")
    print(MEASURED.read_text())  # noqa: T201


def _random_llama(work: Path) -> dict[str, object]:
    """With the server's defaults: kernels, packed weights, the dtype of the processor."""
    options = LoadOptions(
        str(make_base(STANDARD, work / "base")), native_folder=work / "native", packs_weights=True
    )
    folders = [work / "adapters" / str(number) for number in range(NUM_ADAPTERS)]
    for number, folder in enumerate(folders):
        make_adapter(STANDARD, folder, number, _RANK)
    about = f"{STANDARD.num_weights / 1e6:.0f} million weights, LoRA of rank {_RANK}"
    return {"base": about, **_profile(options, folders, work)}


def _demo(work: Path) -> dict[str, object]:
    options = LoadOptions(str(ROOT / "demo" / "demo-base"), dtype="float32")
    folders = [work / "adapters" / f"{number}-{task}" for number, task in enumerate(SMALL_TASKS)]
    for folder, task in zip(folders, SMALL_TASKS, strict=True):
        copytree(ROOT / "adapters_store" / task, folder)
    return {"base": "the demo base", **_profile(options, folders, work)}


def _profile(options: LoadOptions, folders: list[Path], work: Path) -> dict[str, object]:
    watch = Stopwatch(load_base(options), folders, work)
    samples = [watch.decode(n, min(d, len(folders))) for n, d in DECODING]
    samples += [watch.prefill(rows, beside) for rows in PROMPTS for beside in BESIDE]
    step, error = fit(samples, watch.copy_seconds())
    load = LoadCost(disk=watch.load_seconds(), store=watch.fetch_seconds(work))
    return {
        "dtype": watch.dtype,
        "adapter_bytes": watch.adapter_bytes,
        **as_costs(step, load),
        "compile": watch.compile_seconds(work),
        "largest_error_of_fit": round(error, 3),
        "steps": [_line(one, step) for one in samples],
    }


def _line(sample: Sample, step: StepCost) -> str:
    fitted = step.seconds(sample.num_decode, sample.num_prefill, sample.num_adapters)
    return (
        f"{sample.num_decode} decode rows, {sample.num_prefill} prompt rows,"
        f" {sample.num_adapters} adapters: {1000 * sample.seconds:.2f} ms,"
        f" fitted {1000 * fitted:.2f} ms"
    )


if __name__ == "__main__":
    main()
