"""Config fields that peft would follow, but that cannot be served exactly; by kind."""

from typing import Any

from service.compiler.kinds.lora_config import check_init, check_neutral
from service.compiler.kinds.lora_fields import REFUSED
from service.compiler.refusals import Refusals


def check_fields(raw: dict[str, Any], refusals: Refusals) -> None:
    kind = raw["peft_type"]
    if kind in ("LORA", "ADALORA"):
        check_neutral(raw, REFUSED, refusals)
    if kind == "LORA":
        check_init(raw, refusals)
    if kind == "PVERA" and raw.get("sample_at_inference"):
        message = (
            "With sample_at_inference every answer is drawn anew; save the adapter without it."
        )
        refusals.add("unsupported_field", "sample_at_inference", message)
