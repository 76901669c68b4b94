"""A config of any kind as peft's own config object: every field is peft's to follow, or refused."""

import dataclasses
from typing import Any

from peft import PeftConfig, PromptLearningConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import TaskType

from service.adapters.limits import AdapterLimits
from service.compiler.refusals import Refusals
from service.compiler.tuners.fields import check_fields

UNREAD: dict[str, str] = {
    "task_type": "chooses the class of peft's wrapper; what it adds shows up as tensors",
    "auto_mapping": "names a Python class to import; never imported here",
    "peft_version": "says who wrote the file",
    "inference_mode": "switches gradients",
    "base_model_name_or_path": "compared with the base that is served",
    "revision": "compared with the base that is served",
    "runtime_config": "where peft computes, not what",
    "prompt_tuning_init": "says how the prompt was initialised before training",
    "prompt_tuning_init_text": "says how the prompt was initialised before training",
    "prompt_tuning_init_task": "says how the prompt was initialised before training",
    "prompt_tuning_init_state_dict_path": "says how the prompt was initialised before training",
    "tokenizer_name_or_path": "says how the prompt was initialised before training",
    "tokenizer_kwargs": "says how the prompt was initialised before training",
}
"""Fields without effect on a trained adapter. The initialisers among them would read files or ask
a hub, so peft never sees them here."""

_NEUTRAL_INIT = {"prompt_tuning_init": "RANDOM"}
_RANK_FIELDS = ("r", "rank", "init_r", "u", "num_virtual_tokens", "adapter_len", "n_frequency")
_MAX_PER_RANK = {"n_frequency": 4096, "num_virtual_tokens": 16, "adapter_len": 16}


def peft_config(raw: dict[str, Any], limits: AdapterLimits, refusals: Refusals) -> PeftConfig:
    """Raises `AdapterRefused` when a field is unknown to peft, or has a value peft rejects."""
    cls = PEFT_TYPE_TO_CONFIG_MAPPING[raw["peft_type"]]
    known = {one.name for one in dataclasses.fields(cls)}
    for field, value in raw.items():
        if field not in known and value is not None:
            message = f"The config field {field!r} is unknown; only null is accepted for it."
            refusals.add("unknown_field", field, message)
    _check_sizes(raw, limits, refusals)
    check_fields(raw, refusals)
    if issubclass(cls, PromptLearningConfig) and raw.get("task_type") != TaskType.CAUSAL_LM:
        message = "peft puts prompts in front of CAUSAL_LM alone, among the tasks of this base."
        refusals.add("unsupported_field", "task_type", message)
    refusals.raise_if_any()
    used = {field: value for field, value in raw.items() if field in known - UNREAD.keys()}
    used |= {field: value for field, value in _NEUTRAL_INIT.items() if field in known}
    used.pop("peft_type", None)
    try:
        return cls(**used, task_type=TaskType.CAUSAL_LM, inference_mode=True)
    except Exception as error:
        refusals.add("invalid_field", _named(str(error), used), f"peft rejects the config: {error}")
        refusals.raise_if_any()
        raise


def canonical_config(raw: dict[str, Any]) -> dict[str, Any]:
    """What decides the identity of a version."""
    return {
        field: sorted(value) if isinstance(value, list) and _are_texts(value) else value
        for field, value in raw.items()
        if field not in UNREAD and value is not None
    }


def _check_sizes(raw: dict[str, Any], limits: AdapterLimits, refusals: Refusals) -> None:
    for field in _RANK_FIELDS:
        value = raw.get(field)
        limit = limits.max_lora_rank * _MAX_PER_RANK.get(field, 1)
        if isinstance(value, int) and value > limit:
            refusals.add("rank_too_high", field, f"{field} is {value}, the limit is {limit}.")


def _named(text: str, fields: dict[str, Any]) -> str:
    """The field that a message of peft's speaks of, as far as that can be told."""
    return next((field for field in fields if f"`{field}`" in text or f"'{field}'" in text), "")


def _are_texts(values: list[Any]) -> bool:
    return all(isinstance(one, str) for one in values)
