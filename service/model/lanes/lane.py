"""A lane turns a step into a call of transformers' own, unchanged model code."""

from typing import Protocol

import torch

from service.core import Step


class Lane(Protocol):
    name: str

    def run(self, step: Step, wanted: list[int]) -> torch.Tensor:
        """Logits `[len(wanted), vocab]` of the rows `wanted`, ascending; stores KV of all rows."""
