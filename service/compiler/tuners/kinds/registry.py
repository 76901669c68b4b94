"""Which of peft's layers have terms, and who reads them. A layer without a reader, or for which the
reader returns None, is served through peft's own forward."""

from collections.abc import Callable
from typing import Any

import torch

from service.compiler.tuners.kinds import (
    adalora,
    banks,
    beft,
    boft,
    delora,
    hra,
    ia3,
    loha,
    lokr,
    lora,
    miss,
    oft,
    poly,
    road,
    vera,
)
from service.compiler.tuners.saved import token_terms

ADAPTER = "default"
"""The name under which every upload is loaded."""


class NotExact(Exception):
    """Its text says where and why."""

    def __init__(self, message: str, code: str = "not_exact") -> None:
        super().__init__(message)
        self.code = code


Tensors = dict[str, torch.Tensor]
Reader = Callable[[Any, str], Tensors | None]
"""(layer, adapter name) → terms by the names of `service.operator.terms.Terms`, relative to the
base module as it is now, biases included."""

READERS: dict[str, Reader] = {
    "peft.tuners.adalora.bnb": adalora.read,
    "peft.tuners.adalora.layer": adalora.read,
    "peft.tuners.beft.layer": beft.read,
    "peft.tuners.boft.layer": boft.read,
    "peft.tuners.delora.layer": delora.read,
    "peft.tuners.hra.layer": hra.read,
    "peft.tuners.ia3.bnb": ia3.read,
    "peft.tuners.ia3.layer": ia3.read,
    "peft.tuners.loha.layer": loha.read,
    "peft.tuners.lokr.layer": lokr.read,
    "peft.tuners.lora.bnb": lora.read,
    "peft.tuners.lora.layer": lora.read,
    "peft.tuners.miss.layer": miss.read,
    "peft.tuners.oft.layer": oft.read,
    "peft.tuners.poly.layer": poly.read,
    "peft.tuners.pvera.bnb": vera.read_mean,
    "peft.tuners.pvera.layer": vera.read_mean,
    "peft.tuners.road.bnb": road.read,
    "peft.tuners.road.layer": road.read,
    "peft.tuners.tinylora.layer": banks.read_tiny,
    "peft.tuners.trainable_tokens.layer": token_terms,
    "peft.tuners.unilora.layer": banks.read_matrices,
    "peft.tuners.vblora.layer": banks.read_matrices,
    "peft.tuners.vera.layer": vera.read,
}
"""By the module that the layer's class is defined in; `bnb` has those for a base in 8 or 4 bits."""


UNSERVABLE: dict[str, str] = {
    "LILY": "its router averages over all tokens of a call, so the result depends on the batch",
    "XLORA": "its gates come from a second pass over the whole prompt",
    "SHADOW": "peft 0.21 cannot run it with this version of transformers",
    "ADAMSS": "peft needs scikit-learn to read it",
    "FROD": "peft rebuilds its basis from the base's weights whenever it loads it, and what comes"
    " out depends on the number of threads, so that no two processes need agree",
}
"""By peft's `peft_type`."""


def read_terms(layer: torch.nn.Module) -> Tensors | None:
    """The terms of one of peft's layers; None when it has none. Raises `NotExact` where the config
    has left it with values that peft could not compute with either."""
    reader = READERS.get(type(layer).__module__)
    try:
        return None if reader is None else reader(layer, ADAPTER)
    except (TypeError, ValueError, RuntimeError) as error:
        raise NotExact(f"peft's layer cannot be read: {error}", "peft_rejects") from error
