"""What was made of one of peft's layers, against that layer on random rows: a reader that is wrong
is a refusal, not an answer that is wrong."""

import json
from typing import Any

import torch

from service.base import SiteDescription
from service.compiler.tuners.kinds.lora import variant_of
from service.compiler.tuners.kinds.registry import ADAPTER, NotExact
from service.operator.snapshot import restore
from service.operator.terms import Terms
from service.quantized.modules import is_quantized, rounds_inputs

_NUM_ROWS = 4
_TOLERANCE = 1e-4
_SMALL_TOLERANCE = 0.05
"""Of sums in 8 bits of mantissa or of inputs, relative to the largest."""
_CUBIC = ("peft.tuners.boft.layer", "peft.tuners.hra.layer", "peft.tuners.psoft.layer")
"""peft multiplies the whole weight with a matrix in every forward: the first site of each form
stands for the others."""


class Checker:
    """Of one upload."""

    def __init__(self, modules: dict[str, torch.nn.Module], dtype: torch.dtype) -> None:
        """`modules` of the base by path; `dtype` of the rows of those whose weight is packed."""
        self._modules = modules
        self._dtype = dtype
        self._seen: set[object] = set()

    def check_terms(
        self, site: SiteDescription, layer: Any, terms: dict[str, torch.Tensor]
    ) -> None:
        """Raises `NotExact`."""
        rows = self._random_rows(site, layer)
        if "rows" in terms:
            rows = torch.cat([rows, terms["rows"][:_NUM_ROWS]])
        expected = self._expected(site, layer, rows, tuple(terms.values()), _CUBIC)
        if expected is None:
            return
        base = layer.get_base_layer()
        dtype = rows.dtype if rows.is_floating_point() else expected.dtype
        operator = Terms(**{name: _fitting(one, dtype) for name, one in terms.items()})
        if site.kind == "embedding":
            actual = base(rows)
            operator.add_to_embeddings(actual, rows)
        else:
            actual = base(operator.transform(rows))
            operator.add_to(actual, rows, max(0, _num_tasks(layer) - 1))
        _compare(site, base, actual, expected, "The terms differ from peft's layer")

    def check_frozen(
        self, site: SiteDescription, layer: Any, frozen: Any, tensors: list[torch.Tensor]
    ) -> None:
        """Raises `NotExact` when the layer that is put together again is another. The first site
        of each form stands for the others: many of these layers are slow."""
        rows = self._random_rows(site, layer)
        expected = self._expected(site, layer, rows, tuple(tensors), ("",))
        if expected is not None:
            again = restore(json.loads(json.dumps(frozen)), tensors, self._modules.__getitem__)
            base = layer.get_base_layer()
            _compare(site, base, again(rows[None])[0], expected, "peft's layer is not what it was")

    def check_bias(self, site: SiteDescription, layer: Any, old: torch.Tensor) -> None:
        """Raises `NotExact` when the layer does more with the base's bias than to add it: what is
        served adds the difference to the replaced one behind the layer."""
        base = layer.get_base_layer()
        rows, bias = self._random_rows(site, layer), base.bias
        expected, new = _peft_result(layer, rows), bias.data
        bias.data = old
        actual = _peft_result(layer, rows) + (new - old)
        bias.data = new
        what = "peft's layer changes the replaced bias, the results differ"
        _compare(site, base, actual, expected, what)

    def _expected(
        self,
        site: SiteDescription,
        layer: Any,
        rows: torch.Tensor,
        parts: tuple[torch.Tensor, ...],
        once: tuple[str, ...],
    ) -> torch.Tensor | None:
        """What peft makes of the rows; None where another site has stood for this one, which is
        so in modules whose names start with one of `once`.

        The first site of each form also has to treat a row alone as it does among others.
        """
        form = (
            type(layer), site.kind, site.in_features, site.out_features, site.has_bias,
            tuple(tuple(part.shape) for part in parts),
        )  # fmt: skip
        is_known = form in self._seen
        if is_known and type(layer).__module__.startswith(once):
            return None
        self._seen.add(form)
        try:
            expected = _peft_result(layer, rows)
            alone = None if is_known else _peft_result(layer, rows[:1])
        except Exception as error:
            message = f"peft cannot run its own layer at {site.path!r}: {error}"
            raise NotExact(message, "peft_rejects") from error
        if is_quantized(layer.get_base_layer()) and expected.dtype is not rows.dtype:
            # Such a layer counts on autocast; without it peft itself ends in an error.
            message = (
                f"peft's layer at {site.path!r} answers in {expected.dtype} on a base in"
                f" {rows.dtype}, which peft itself cannot run; serve the base in {expected.dtype}."
            )
            raise NotExact(message.replace("torch.", ""), "peft_rejects")
        if alone is not None:
            base, what = layer.get_base_layer(), "peft's result hangs on other rows or on chance"
            _compare(site, base, alone, expected[:1], what)
        return expected

    def _random_rows(self, site: SiteDescription, layer: Any) -> torch.Tensor:
        draw = torch.Generator().manual_seed(0)
        if site.kind == "embedding":
            return torch.randint(site.in_features, (_NUM_ROWS,), generator=draw)
        rows = torch.randn(_NUM_ROWS, site.in_features, generator=draw)
        base = layer.get_base_layer()
        return rows.to(self._dtype if is_quantized(base) else base.weight.dtype)


def _peft_result(layer: Any, rows: torch.Tensor) -> torch.Tensor:
    """aLoRA's layer has to be told how many of the last rows are behind the invocation, Poly's
    which task it is: the last, so that the first is not taken for every one."""
    options: dict[str, Any] = {}
    if variant_of(layer, ADAPTER) == "ALoraLinearVariant":
        options["alora_offsets"] = [len(rows)]
    if _num_tasks(layer):
        options["task_ids"] = torch.tensor([_num_tasks(layer) - 1])
    result: torch.Tensor = layer(rows[None], **options)[0]
    return result


def _num_tasks(layer: Any) -> int:
    return int(getattr(layer, "n_tasks", {}).get(ADAPTER, 0))


def _compare(
    site: SiteDescription, base: Any, actual: torch.Tensor, expected: torch.Tensor, what: str
) -> None:
    scale = expected.float().abs().max().clamp(min=1.0)
    error = ((actual.float() - expected.float()).abs().max() / scale).item()
    is_exact = expected.dtype is torch.float32 and not rounds_inputs(base)
    tolerance = _TOLERANCE if is_exact else _SMALL_TOLERANCE
    if not error <= tolerance:
        raise NotExact(f"At {site.path!r}: {what} by {error:.2g}.")


def _fitting(term: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Matrices follow the dtype of what they act on."""
    return term.to(dtype) if term.is_floating_point() and term.ndim > 1 else term
