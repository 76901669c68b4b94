"""Puts in what a kernel computes in one pass, where a model's own code takes many for the same."""

from dataclasses import dataclass

import torch

from service.model.fused.gates import fuse_gates
from service.model.fused.norms import fuse_norms
from service.model.fused.rotations import fuse_rotations
from service.model.kernels import ElementwiseKernel


@dataclass(frozen=True, slots=True)
class Fused:
    """How many modules of each sort."""

    norms: int = 0
    gates: int = 0
    rotations: int = 0

    def __str__(self) -> str:
        return f"{self.norms} norms, {self.gates} gates, {self.rotations} rotations"


@torch.inference_mode()
def fuse(model: torch.nn.Module, kernel: ElementwiseKernel | None) -> Fused:
    """Once per model, before its modules become sites: a site calls what it finds. Only `forward`
    of an instance is replaced, and only where it computes the same numbers as before."""
    if kernel is None:
        return Fused()
    return Fused(
        fuse_norms(model, kernel), fuse_gates(model, kernel), fuse_rotations(model, kernel)
    )
