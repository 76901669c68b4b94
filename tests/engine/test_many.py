"""What the engine does between two steps does not grow with who waits or with what is in memory.

All of it happens on the thread that every stream waits for, so calls are counted, not seconds.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from tests.engine.machine import PAGE, Machine, ref

FEW, MANY = 50, 800


@contextmanager
def counting_calls() -> Iterator[list[int]]:
    """Of Python's functions and of C's, comprehensions and resumed generators included."""
    counted = [0]

    def note(frame: FrameType, event: str, argument: object) -> None:
        counted[0] += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        yield counted
    finally:
        sys.setprofile(None)


def one_more_cold(machine: Machine) -> None:
    machine.add(adapter=ref(5000))


def step(machine: Machine) -> None:
    machine.step()


def load(machine: Machine) -> None:
    machine.finish_load(next(iter(machine.loader.pending)))


def with_cold(count: int) -> Machine:
    """One tenant's: it may not have the last thread, which stays free."""
    machine = Machine(num_loaders=3, host_bytes=10_000 * PAGE)
    machine.add(max_tokens=50)
    for number in range(count):
        machine.add(adapter=ref(number))
    return machine


def with_resident(count: int) -> Machine:
    """Host memory full of idle adapters."""
    machine = Machine(num_loaders=3, host_bytes=count * PAGE, device_pages=4)
    for number in range(count):
        machine.warm(ref(number))
        machine.finish_load(f"digest{number}")
    machine.add(adapter=ref(5000))
    return machine


def with_warm(count: int) -> Machine:
    """All places are taken."""
    machine = Machine(max_num_seqs=1, device_pages=count, host_bytes=count * PAGE)
    for number in range(count):
        machine.warm(ref(number), "device")
        machine.finish_load(f"digest{number}")
    for number in range(count):
        machine.add(adapter=ref(number), max_tokens=50)
    machine.step()
    return machine


@pytest.mark.parametrize(
    ("setting", "act"),
    [
        (with_cold, one_more_cold),
        (with_cold, step),
        (with_cold, load),
        (with_resident, load),
        (with_warm, step),
    ],
)
def test_many_cost_no_more_than_few(
    setting: Callable[[int], Machine], act: Callable[[Machine], None]
) -> None:
    counts = []
    for count in (FEW, MANY):
        machine = setting(count)
        with counting_calls() as counted:
            act(machine)
        counts.append(counted[0])
    few, many = counts
    assert many < few + FEW
