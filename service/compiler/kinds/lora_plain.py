"""Which LoRA uploads the quick path reads: those on linear modules alone, without extras."""

import re
from typing import Any

from service.base import BaseDescription
from service.compiler.kinds.lora_fields import LEFT_TO_PEFT, is_neutral
from service.compiler.kinds.targets import TargetRule


def is_plain_lora(config: dict[str, Any], base: BaseDescription) -> bool:
    """False leaves the upload to peft; what is wrong anyway is refused here, which is quicker."""
    if config["peft_type"] != "LORA":
        return False
    if any(not is_neutral(field, config[field]) for field in LEFT_TO_PEFT & config.keys()):
        return False
    if config.get("bias") == "all" and any(
        site.kind != "linear" and site.has_bias for site in base.sites
    ):
        return False
    sites = {site.path: site for site in base.sites}
    targets = [sites[path] for path in _targets(config, base) if path in sites]
    if config.get("use_dora") and any(site.weight is None for site in targets):
        return False  # DoRA's norms need a weight that only a loaded base has: it is quantised.
    return all(site.kind == "linear" for site in targets)


def _targets(config: dict[str, Any], base: BaseDescription) -> tuple[str, ...]:
    """Layers do not matter here: a module that only some layers adapt has one kind in all."""
    include = config.get("target_modules")
    if isinstance(include, list):
        include = frozenset(str(one) for one in include)
    if not isinstance(include, str | frozenset):
        return ()
    try:
        return TargetRule(include).resolve(base.modules, base.output_module)
    except (re.error, RecursionError, OverflowError):
        return ()
