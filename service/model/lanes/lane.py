"""A lane turns a step into calls of transformers' own, unchanged model code."""

from dataclasses import dataclass
from typing import Protocol

import torch

from service.base import LaneName
from service.model.kv_store import KVStore
from service.step import Step


@dataclass(frozen=True, slots=True)
class LaneChoice:
    """Which lane runs an architecture exactly, found by the self-test."""

    name: LaneName
    can_chunk: bool = True
    """Whether a prompt may be computed in several steps; False where the model's own code takes a
    state of its past only together with a single token (state-space models)."""
    rejected: tuple[tuple[str, str], ...] = ()
    """(lane, why not) of the faster lanes."""


class Lane(Protocol):
    name: LaneName

    @property
    def store(self) -> KVStore | None:
        """Keys and values in blocks, which sequences may share."""

    def run(self, step: Step, wanted: list[int]) -> torch.Tensor:
        """Logits `[len(wanted), vocab]` of the rows `wanted`, ascending; keeps the past of all
        sequences of the step."""

    def forget(self, request_id: str) -> None:
        """The sequence has ended or starts anew: give up what the lane itself keeps of it."""
