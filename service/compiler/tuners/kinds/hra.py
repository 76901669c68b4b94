"""HRA: the weight times a product of Householder reflections (peft `tuners/hra/layer.py`).

`W H_1 .. H_r` with `H_i = I - 2 u_i u_i^T` sees the input through `H = I - U T U^T`, T upper
triangular (the compact WY form); of orthonormal vectors (`apply_GS`) T is 2 I. Thus
`x H^T = x - ((x U) T^T) U^T`.
"""

from typing import Any

import torch


def read(layer: Any, adapter: str) -> dict[str, torch.Tensor]:
    vectors = layer.hra_u[adapter].detach().double()
    if layer.hra_apply_GS[adapter]:
        basis = _orthonormal(vectors)
        mix = -2 * basis
    else:
        basis = vectors / vectors.norm(dim=0)
        mix = -basis @ _triangle(basis)
    return {"mix_a": basis.t().float(), "mix_b": mix.float()}


def _triangle(basis: torch.Tensor) -> torch.Tensor:
    """T for the product of the reflections in the order of the columns."""
    rank = basis.shape[1]
    triangle = torch.zeros(rank, rank, dtype=basis.dtype)
    overlaps = basis.t() @ basis
    for i in range(rank):
        triangle[:i, i] = -2 * triangle[:i, :i] @ overlaps[:i, i]
        triangle[i, i] = 2
    return triangle


def _orthonormal(vectors: torch.Tensor) -> torch.Tensor:
    """Gram-Schmidt, as peft does it: signs do not matter here, the order does."""
    basis: list[torch.Tensor] = []
    for vector in vectors.unbind(1):
        for other in basis:
            vector = vector - (other @ vector) * other
        basis.append(vector / vector.norm())
    return torch.stack(basis, 1)
