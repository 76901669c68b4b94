"""Every LoRA tensor is used or refused by name, and every module that should have one has it."""

import re
from collections.abc import Mapping

from service.adapters.limits import AdapterLimits
from service.base import BaseDescription, SiteDescription
from service.compiler.arrays import is_copy, is_finite
from service.compiler.base_weights import BaseWeights
from service.compiler.kinds.lora_config import LoraConfig
from service.compiler.kinds.lora_tensors import PREFIX, GroupedTensors, ModuleTensors
from service.compiler.refusals import Refusals
from service.compiler.upload import Upload

_FLOATS = frozenset({"F32", "F16", "BF16"})


class LoraChecker:
    def __init__(
        self,
        upload: Upload,
        base: BaseDescription,
        config: LoraConfig,
        weights: BaseWeights,
        limits: AdapterLimits,
        refusals: Refusals,
    ) -> None:
        self._upload = upload
        self._base = base
        self._config = config
        self._weights = weights
        self._limits = limits
        self._refusals = refusals
        self._sites = {site.path: site for site in base.sites if site.kind == "linear"}
        self.warnings: tuple[str, ...] = ()

    def check(self, grouped: GroupedTensors) -> None:
        for name in grouped.unknown:
            self._refuse_tensor(name)
        targets = self._targets()
        self._check_presence(targets, grouped)
        for path, tensors in grouped.modules.items():
            site = self._sites.get(path)
            if site is None or (tensors.is_adapted and path not in targets):
                for name in tensors.names.values():
                    self._refuse_tensor(name, self._advice(path))
            else:
                self._check_module(site, tensors)
        self.warnings = self._unmatched_patterns(targets)

    def _targets(self) -> frozenset[str]:
        rule = self._config.rule
        try:
            paths = rule.resolve(self._base.modules, self._base.output_module)
        except re.error:
            message = "layers_pattern is not a regular expression."
            self._refusals.add("invalid_field", "layers_pattern", message)
            return frozenset()
        if not paths:
            message = "target_modules matches no module of the base model."
            self._refusals.add("no_target", "target_modules", message)
        for path in paths:
            if path not in self._sites:
                message = f"The module {path!r} cannot carry this kind of adapter here."
                self._refusals.add("unsupported_target", path, message)
        return frozenset(paths)

    def _check_presence(self, targets: frozenset[str], grouped: GroupedTensors) -> None:
        for path in sorted(targets & self._sites.keys()):
            names = grouped.modules.get(path, ModuleTensors()).names
            wanted = {"a": "lora_A.weight", "b": "lora_B.weight"}
            if self._config.is_dora:
                wanted["magnitude"] = "lora_magnitude_vector"
            if self._config.has_lora_bias:
                wanted["b_bias"] = "lora_B.bias"
            if self._config.bias != "none" and self._sites[path].has_bias:
                wanted["bias"] = "base_layer.bias"
            for role, suffix in wanted.items():
                if role not in names:
                    self._refuse_missing(f"{PREFIX}{path}.{suffix}")
        if self._config.bias == "all":
            for site in self._sites.values():
                names = grouped.modules.get(site.path, ModuleTensors()).names
                if site.has_bias and site.path not in targets and "bias" not in names:
                    self._refuse_missing(f"{PREFIX}{site.path}.bias")

    def _check_module(self, site: SiteDescription, tensors: ModuleTensors) -> None:
        config, rank = self._config, self._config.rank_of(site.path)
        self._drop_copied_bias(site, tensors)
        if rank > self._limits.max_lora_rank and tensors.is_adapted:
            message = (
                f"Rank {rank} at {site.path!r} exceeds the limit {self._limits.max_lora_rank}."
            )
            self._refusals.add("rank_too_high", site.path, message)
        shapes = {
            "a": (rank, site.in_features),
            "b": (site.out_features, rank),
            "b_bias": (site.out_features,),
            "magnitude": (site.out_features,),
            "bias": (site.out_features,),
            "base_weight": (site.out_features, site.in_features),
        }
        allowed = {
            "magnitude": config.is_dora,
            "b_bias": config.has_lora_bias,
            "bias": self._may_replace_bias(site, tensors),
        }
        for role, name in tensors.names.items():
            if not allowed.get(role, True):
                self._refuse_tensor(name)
            elif self._check_values(name, shapes[role]) and role == "base_weight":
                self._check_base_weight(site, name)
        self._check_base_is_readable(site, tensors)

    def _may_replace_bias(self, site: SiteDescription, tensors: ModuleTensors) -> bool:
        """peft names the bias of a touched module `base_layer.bias` and ignores any other name."""
        if not site.has_bias or tensors.is_bare_bias == tensors.is_adapted:
            return False
        mode = self._config.bias
        return mode == "all" or (mode == "lora_only" and tensors.is_adapted)

    def _drop_copied_bias(self, site: SiteDescription, tensors: ModuleTensors) -> None:
        """With an output projection as target peft saves its weight and bias along, as they are."""
        bias = self._weights.view(site.bias)
        name = tensors.names.get("bias")
        if self._config.bias != "none" or name is None or bias is None:
            return
        if self._upload.infos[name].dtype in _FLOATS and is_copy(self._upload.view(name), bias):
            del tensors.names["bias"]

    def _check_values(self, name: str, shape: tuple[int, ...]) -> bool:
        info = self._upload.infos[name]
        if info.dtype not in _FLOATS:
            message = f"The tensor {name!r} is {info.dtype}; only F32, F16 and BF16 are accepted."
            self._refusals.add("wrong_dtype", name, message)
        elif info.shape != shape:
            message = f"The tensor {name!r} has shape {list(info.shape)}, expected {list(shape)}."
            self._refusals.add("wrong_shape", name, message)
        elif not is_finite(self._upload.view(name)):
            self._refusals.add("not_finite", name, f"The tensor {name!r} contains NaN or infinity.")
        else:
            return True
        return False

    def _check_base_weight(self, site: SiteDescription, name: str) -> None:
        weight = self._weights.view(site.weight)
        if weight is None or not is_copy(self._upload.view(name), weight):
            message = f"The tensor {name!r} differs from the base's own weight."
            self._refusals.add("base_differs", name, message)

    def _check_base_is_readable(self, site: SiteDescription, tensors: ModuleTensors) -> None:
        needs_weight = self._config.is_dora and tensors.is_adapted
        needs_bias = site.has_bias and (needs_weight or "bias" in tensors.names)
        if (needs_weight and self._weights.view(site.weight) is None) or (
            needs_bias and self._weights.view(site.bias) is None
        ):
            message = f"The base's own values of {site.path!r} cannot be read, but are needed."
            self._refusals.add("base_unreadable", site.path, message)

    def _unmatched_patterns(self, targets: frozenset[str]) -> tuple[str, ...]:
        """peft ignores them with a warning, so they are no reason to refuse."""
        fields: dict[str, Mapping[str, float]] = {
            "rank_pattern": self._config.rank_pattern,
            "alpha_pattern": self._config.alpha_pattern,
        }
        return tuple(
            f"The {field} key {key!r} matches no targeted module and has no effect."
            for field, pattern in fields.items()
            for key in pattern
            if not any(re.match(rf"(.*\.)?({key})$", path) for path in targets)
        )

    def _advice(self, path: str) -> str:
        is_module = any(path == one for one, _ in self._base.modules)
        if self._config.bias == "all" and is_module and path not in self._sites:
            return " Its module can have no adapter here; train with another `bias`."
        return ""

    def _refuse_tensor(self, name: str, advice: str = "") -> None:
        message = f"The tensor {name!r} is not one this config asks for on this base."
        self._refusals.add("unknown_tensor", name, message + advice)

    def _refuse_missing(self, name: str) -> None:
        self._refusals.add("missing_tensor", name, f"The tensor {name!r} is missing.")
