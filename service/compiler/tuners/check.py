"""Terms against peft's own layer on random rows: a reader that is wrong is a refusal, not an
answer that is wrong."""

from typing import Any

import torch

from service.compiler.tuners.kinds.lora import variant_of
from service.compiler.tuners.kinds.registry import ADAPTER
from service.core import SiteDescription
from service.operator.terms import Terms

_NUM_ROWS = 4
_TOLERANCE = 1e-4


def terms_problem(site: SiteDescription, layer: Any, terms: dict[str, torch.Tensor]) -> str | None:
    base = layer.get_base_layer()
    rows = _random_rows(site, base.weight.dtype)
    expected = _peft_result(layer, rows).float()
    operator = Terms(**{name: _fitting(one, rows) for name, one in terms.items()})
    if site.kind == "embedding":
        actual = base(rows)
        operator.add_to_embeddings(actual, rows)
    else:
        actual = base(operator.transform(rows))
        operator.add_to(actual, rows)
    scale = expected.abs().max().clamp(min=1.0)
    error = ((actual.float() - expected).abs().max() / scale).item()
    tolerance = _TOLERANCE if base.weight.dtype is torch.float32 else 0.05
    if error <= tolerance:
        return None
    return f"The terms of {site.path!r} differ from peft's result by {error:.2g}."


def _peft_result(layer: Any, rows: torch.Tensor) -> torch.Tensor:
    """aLoRA's layer has to be told how many of the last rows are behind the invocation."""
    is_activated = variant_of(layer, ADAPTER) == "ALoraLinearVariant"
    options = {"alora_offsets": [len(rows)]} if is_activated else {}
    result: torch.Tensor = layer(rows[None], **options)[0]
    return result


def _random_rows(site: SiteDescription, dtype: torch.dtype) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    if site.kind == "embedding":
        return torch.randint(site.in_features, (_NUM_ROWS,), generator=draw)
    return torch.randn(_NUM_ROWS, site.in_features, generator=draw).to(dtype)


def _fitting(term: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    if term.is_floating_point() and rows.is_floating_point() and term.ndim > 1:
        return term.to(rows.dtype)
    return term
