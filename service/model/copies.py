"""Copies from host memory to the device, beside the steps where the device can do both at once."""

from collections.abc import Iterable
from typing import Protocol

import torch


class Copies(Protocol):
    def start(self, slot: int, target: torch.Tensor, source: torch.Tensor) -> None:
        """`target` is the slot's own and nothing reads it before `wait_for`."""

    def wait_for(self, slots: Iterable[int]) -> None:
        """What is computed from here on finds these slots filled."""


class DirectCopies:
    def start(self, slot: int, target: torch.Tensor, source: torch.Tensor) -> None:
        target.copy_(source)

    def wait_for(self, slots: Iterable[int]) -> None:
        """They are."""


class StreamCopies:
    """On a stream of their own: a step waits for the copies of its own slots and for no others."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pending: dict[int, torch.cuda.Event] = {}

    def start(self, slot: int, target: torch.Tensor, source: torch.Tensor) -> None:
        # Steps that read what the slot held before come first.
        self._stream.wait_stream(torch.cuda.current_stream(target.device))
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)
        self._pending[slot] = self._stream.record_event()

    def wait_for(self, slots: Iterable[int]) -> None:
        for slot in self._pending.keys() & set(slots):
            torch.cuda.current_stream().wait_event(self._pending.pop(slot))


def copies_to(device: torch.device) -> Copies:
    return StreamCopies(device) if device.type == "cuda" else DirectCopies()
