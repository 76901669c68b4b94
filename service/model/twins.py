"""Every kernel beside its twin in torch."""

import torch

from service.model import attention_twin, elementwise_twin, linear_twin, terms_twin
from service.model.kernels import Kernels


def wrong_kernel(kernels: Kernels, device: torch.device) -> str | None:
    """The first one that does not do what its twin does."""
    if not terms_twin.equals(kernels.terms, device):
        return "terms"
    if not attention_twin.equals(kernels.attention, device):
        return "attention"
    if kernels.linear is not None and not linear_twin.equals(kernels.linear, kernels.terms, device):
        return "linear"
    if kernels.elementwise and not elementwise_twin.equals(kernels.elementwise, device):
        return "elementwise"
    return None
