"""What a replica of the simulation costs: of a step, of a load. Measured or assumed, and it says
which."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MEASURED = Path(__file__).with_name("measured.json")


@dataclass(frozen=True, slots=True)
class StepCost:
    """Seconds of one turn of the engine's loop, linear in what is in the step."""

    fixed: float
    decode_row: float
    prefill_row: float
    adapter: float
    """Each one that has rows in the step."""
    copy: float
    """Each one that is brought to the device in front of the step."""

    def seconds(self, num_decode: int, num_prefill: int, num_adapters: int) -> float:
        return (
            self.fixed
            + self.decode_row * num_decode
            + self.prefill_row * num_prefill
            + self.adapter * num_adapters
        )


@dataclass(frozen=True, slots=True)
class LoadCost:
    """Seconds until a cold adapter is in host memory."""

    disk: float
    """From the replica's own disk, compiled."""
    store: float
    """Before that, where the disk does not have it: its compiled form, from the shared store."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Tokens of a request, each uniform between two bounds."""

    prompt: tuple[int, int] = (16, 64)
    output: tuple[int, int] = (8, 32)


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    step: StepCost
    load: LoadCost
    traffic: Traffic = Traffic()
    max_mixed_prefill_tokens: int = 128
    max_num_batched_tokens: int = 512


ASSUMED_GPU = Profile(
    name="gpu-like",
    # A 7B model in 16 bits on a card with 2 TB/s reads its weights in 7 ms; Punica reports that
    # adapters add 2 ms to a token in a batch of 32 distinct ones (arXiv 2310.18547).
    step=StepCost(fixed=8e-3, decode_row=3e-5, prefill_row=6e-5, adapter=6e-5, copy=2e-3),
    # 40 MB (rank 16): PCIe at 20 GB/s makes the copy; a disk at 1.5 GB/s; an object store at
    # 0.4 GB/s, 30 ms away.
    load=LoadCost(disk=0.03, store=0.13),
    traffic=Traffic(prompt=(64, 384), output=(16, 112)),
    max_mixed_prefill_tokens=512,
    max_num_batched_tokens=2048,
)
"""Assumed from literature and data sheets; nobody has measured it."""


def measured() -> Mapping[str, Any]:
    body: Mapping[str, Any] = json.loads(MEASURED.read_text())
    return body


def measured_profile(name: str) -> Profile:
    """`cpu`, or `demo`: the base of `make fleet`."""
    costs = measured()["profiles"][name]
    return Profile(name, StepCost(**costs["step"]), LoadCost(**costs["load"]))


def as_costs(step: StepCost, load: LoadCost) -> dict[str, Any]:
    return {"step": asdict(step), "load": asdict(load)}
