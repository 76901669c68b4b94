"""LoRA, rsLoRA, DoRA, `lora_bias` and replaced biases as terms of `c * base(x) + (x A^T) B^T + d`.

Whatever peft 0.21 computes for such a file follows from four lines, per module, with s the scaling:

    plain      A, B = s B
    DoRA       c = m / ||W + s B A|| by rows, A, B = c s B
    lora_bias  d += s b_lora
    biases     d += b_new - c b_base      (b_new = b_base unless the file replaces it)
"""

from functools import partial

from service.adapters.limits import AdapterLimits
from service.base import BaseDescription, SiteDescription
from service.compiler.arrays import Array, is_finite
from service.compiler.base_weights import BaseWeights
from service.compiler.kinds.lora_checks import LoraChecker
from service.compiler.kinds.lora_config import LoraConfig, parse_config
from service.compiler.kinds.lora_math import dora_scale, replaced_bias, scaled_b
from service.compiler.kinds.lora_tensors import PREFIX, GroupedTensors, ModuleTensors, group_tensors
from service.compiler.refusals import Refusals
from service.compiler.terms import Plan, SitePlan, Term, UsedTensor, vector
from service.compiler.upload import Upload


def plan_lora(
    upload: Upload, base: BaseDescription, limits: AdapterLimits, refusals: Refusals
) -> Plan:
    config = parse_config(upload.config, refusals)
    grouped = group_tensors(list(upload.infos))
    weights = BaseWeights()
    checker = LoraChecker(upload, base, config, weights, limits, refusals)
    checker.check(grouped)
    refusals.raise_if_any()
    planner = _Planner(upload, base, config, weights, refusals)
    plan = planner.plan(grouped, checker.warnings)
    refusals.raise_if_any()
    return plan


class _Planner:
    """Works on tensors that have passed every check but those on computed numbers."""

    def __init__(
        self,
        upload: Upload,
        base: BaseDescription,
        config: LoraConfig,
        weights: BaseWeights,
        refusals: Refusals,
    ) -> None:
        self._upload = upload
        self._base = base
        self._config = config
        self._weights = weights
        self._refusals = refusals

    def plan(self, grouped: GroupedTensors, warnings: tuple[str, ...]) -> Plan:
        adapted = [path for path, tensors in grouped.modules.items() if tensors.is_adapted]
        sites = tuple(
            SitePlan(site.path, terms)
            for site in self._base.sites
            if (tensors := grouped.modules.get(site.path)) and (terms := self._terms(site, tensors))
        )
        return Plan(
            kind="dora" if self._config.is_dora else "lora",
            rank=max(self._config.rank_of(path) for path in adapted),
            config={
                "peft_type": "LORA",
                "use_dora": self._config.is_dora,
                "scaling": {path: self._config.scaling_of(path) for path in sorted(adapted)},
            },
            tensors=self._used_tensors(grouped),
            sites=sites,
            warnings=warnings,
            adds_biases=not any("bias" in tensors.names for tensors in grouped.modules.values()),
        )

    def _terms(self, site: SiteDescription, tensors: ModuleTensors) -> dict[str, Term]:
        terms: dict[str, Term] = {}
        scale: Array | None = None
        if tensors.is_adapted:
            a, b = self._view(tensors, "a"), self._view(tensors, "b")
            scaling = self._config.scaling_of(site.path)
            if self._config.is_dora:
                scale = self._dora_scale(site, tensors, a, b, scaling)
            make_b = partial(scaled_b, site.path, b, scaling, scale, self._base.dtype)
            terms["a"] = Term(self._base.dtype, a.shape, partial(_as_is, a))
            terms["b"] = Term(self._base.dtype, b.shape, make_b)
        if scale is not None:
            terms["c"] = vector(scale)
        if (bias := self._bias(site, tensors, scale)) is not None:
            terms["d"] = vector(bias)
        return terms

    def _bias(
        self, site: SiteDescription, tensors: ModuleTensors, scale: Array | None
    ) -> Array | None:
        new = self._view(tensors, "bias") if "bias" in tensors.names else None
        lora = self._view(tensors, "b_bias") if "b_bias" in tensors.names else None
        old = self._weights.view(site.bias) if site.has_bias else None
        scaling = self._config.scaling_of(site.path) if lora is not None else 0.0
        return replaced_bias(old=old, new=new, lora=lora, scaling=scaling, scale=scale)

    def _dora_scale(
        self, site: SiteDescription, tensors: ModuleTensors, a: Array, b: Array, scaling: float
    ) -> Array:
        weight = self._weights.view(site.weight)
        assert weight is not None
        scale = dora_scale(weight, a, b, scaling, self._view(tensors, "magnitude"))
        if not is_finite(scale):
            name = tensors.names["magnitude"]
            self._refusals.add("not_finite", name, f"DoRA's scale of {site.path!r} is not finite.")
        return scale

    def _view(self, tensors: ModuleTensors, role: str) -> Array:
        return self._upload.view(tensors.names[role])

    def _used_tensors(self, grouped: GroupedTensors) -> tuple[UsedTensor, ...]:
        """A copy of the base's own weight has no effect, so it is not part of the identity."""
        names = {
            f"{path}.{role}": name
            for path, tensors in grouped.modules.items()
            for role, name in tensors.names.items()
            if role != "base_weight"
        }
        return tuple(
            UsedTensor(PREFIX + key, self._upload.infos[name].dtype, self._upload.view(name))
            for key, name in sorted(names.items())
        )


def _as_is(array: Array) -> Array:
    return array
