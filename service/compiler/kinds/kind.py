"""The seam between the compiler and one PEFT kind, and the list of kinds that exist."""

from collections.abc import Callable

from service.adapters.limits import AdapterLimits
from service.base import BaseDescription
from service.compiler.kinds.lora import plan_lora
from service.compiler.kinds.lora_plain import is_plain_lora
from service.compiler.refusals import Refusals
from service.compiler.terms import Plan
from service.compiler.upload import Upload

Planner = Callable[[Upload, BaseDescription, AdapterLimits, Refusals], Plan]
"""Checks everything an upload says and plans its terms.

Adds every reason against the upload to the refusals and raises `AdapterRefused` when there is any.
"""

PlannerFor = Callable[[Upload, BaseDescription], Planner | None]
"""Who plans an upload; None = somebody else has to."""

KINDS = frozenset(
    {
        "ADALORA", "ADAMSS", "ADAPTION_PROMPT", "BEFT", "BOFT", "C3A", "CARTRIDGE", "CPT", "DEFT",
        "DELORA", "FOURIERFT", "FROD", "GLORA", "GRALORA", "HIRA", "HRA", "IA3", "LILY",
        "LN_TUNING", "LOHA", "LOKR", "LORA", "MISS", "MULTITASK_PROMPT_TUNING", "OFT", "OSF",
        "PEANUT", "POLY", "PREFIX_TUNING", "PROMPT_TUNING", "PSOFT", "PVERA", "P_TUNING",
        "RANDLORA", "ROAD", "SHADOW", "SHIRA", "SUPERTUNING", "TINYLORA", "TRAINABLE_TOKENS",
        "UNILORA", "VBLORA", "VERA", "WAVEFT", "XLORA",
    }
)  # fmt: skip
"""Every `peft_type` of the pinned peft; those that cannot be served are refused by its planner."""


def plain_planner(upload: Upload, base: BaseDescription) -> Planner | None:
    """Plain LoRA needs neither torch nor peft, and is ready in a third of a second."""
    return plan_lora if is_plain_lora(upload.config, base) else None
