"""Config fields that peft would follow, but that cannot be served exactly; by kind."""

from typing import Any

from service.compiler.kinds.lora_config import check_init, check_neutral
from service.compiler.kinds.lora_fields import NEUTRAL, REFUSED
from service.compiler.refusals import Refusals

_BESIDE_LORA = {"modules_to_save", "trainable_token_indices", "ensure_weight_tying"}
_ADALORA_HAS_NOT = frozenset(NEUTRAL) - _BESIDE_LORA
"""Its config has all fields of LoRA's; its layers know none of LoRA's variants."""


def check_fields(raw: dict[str, Any], refusals: Refusals) -> None:
    kind = raw["peft_type"]
    if kind == "LORA":
        check_neutral(raw, REFUSED, refusals)
        check_init(raw, refusals)
    if kind == "ADALORA":
        check_neutral(raw, _ADALORA_HAS_NOT, refusals)
    if kind == "PVERA" and raw.get("sample_at_inference"):
        message = (
            "With sample_at_inference every answer is drawn anew; save the adapter without it."
        )
        refusals.add("unsupported_field", "sample_at_inference", message)
