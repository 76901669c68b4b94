"""Folders of another library than peft, told by their config, so that the refusal can say so."""

from typing import Any

_IN_PEFT_TOO = {
    "lora": "LoRA",
    "prefix_tuning": "prefix tuning",
    "prompt_tuning": "prompt tuning",
    "reft": "",
    "union": "",
}
"""By the library's `architecture`; a config without one, or with another, is a bottleneck adapter
(Houlsby, Pfeiffer, parallel, Compacter)."""


def foreign_format(config: dict[str, Any]) -> str | None:
    """What the folder is and what to do instead, when the `adapters` library has saved it."""
    inner = config.get("config")
    if "peft_type" in config or not isinstance(inner, dict):
        return None
    if not ("model_class" in config or "architecture" in inner or "mh_adapter" in inner):
        return None
    method = _IN_PEFT_TOO.get(str(inner.get("architecture")))
    if method is None:
        return (
            "This is a bottleneck adapter of the `adapters` library. That library puts layers of"
            " its own into its own copies of the models, for transformers 4, so that nothing here"
            " can tell whether an answer is right. Train one of peft's kinds instead: LoRA on all"
            " linear modules reaches the same places."
        )
    advice = f" Save the adapter with peft, which has {method} too." if method else ""
    return f"This folder was saved by the `adapters` library; only those of peft are read.{advice}"
