"""Runs a base model with compiled terms, written independently of the engine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ml_dtypes
import numpy as np
import torch
from transformers import PreTrainedModel

from service.adapters.compiled import CompiledHeader, SiteTerms, TermView, read_header

_DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


def compiled_logits(model: PreTrainedModel, compiled: Path, ids: torch.Tensor) -> torch.Tensor:
    with applied(model, compiled), torch.no_grad():
        return model(ids).logits


def load_terms(compiled: Path) -> tuple[CompiledHeader, dict[str, dict[str, torch.Tensor]]]:
    with compiled.open("rb") as file:
        header = read_header(file)
        payload = file.read(header.payload_bytes)
    assert len(payload) == header.payload_bytes
    return header, {site.site: _site_terms(site, payload) for site in header.sites}


@contextmanager
def applied(model: PreTrainedModel, compiled: Path) -> Iterator[None]:
    _, terms = load_terms(compiled)
    modules = dict(model.named_modules())
    hooks = [modules[path].register_forward_hook(_hook(site)) for path, site in terms.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _hook(terms: dict[str, torch.Tensor]):
    def add_terms(module, inputs, output):
        if "c" in terms:
            output = output * terms["c"]
        if "a" in terms:
            output = output + inputs[0] @ terms["a"].T @ terms["b"].T
        if "d" in terms:
            output = output + terms["d"]
        return output

    return add_terms


def _site_terms(site: SiteTerms, payload: bytes) -> dict[str, torch.Tensor]:
    return {name: _tensor(view, payload) for name, view in site.terms.items()}


def _tensor(view: TermView, payload: bytes) -> torch.Tensor:
    dtype = np.dtype(_DTYPES[view.dtype])
    size = int(np.prod(view.shape)) * dtype.itemsize
    array = np.frombuffer(payload[view.offset : view.offset + size], dtype=dtype)
    return torch.from_numpy(array.reshape(view.shape).astype(np.float32))
