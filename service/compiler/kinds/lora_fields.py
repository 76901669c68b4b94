"""Every field of peft's LoraConfig: used, without effect at inference, or only neutral.

A config field that is in none of the three tables is refused unless it is null, so that nothing an
upload says is left unread.
"""

from typing import Any

USED = frozenset(
    {
        "peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora",
        "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
        "bias", "lora_bias", "use_dora", "init_lora_weights",
        "base_model_name_or_path", "revision",
    }
)  # fmt: skip

WITHOUT_EFFECT: dict[str, str] = {
    "task_type": "chooses the class of peft's wrapper; what it adds shows up as tensors",
    "auto_mapping": "names a Python class to import; never imported here",
    "peft_version": "says who wrote the file",
    "inference_mode": "switches gradients",
    "lora_dropout": "acts in training only",
    "fan_in_fan_out": "peft sets it by the class of the module, whatever the file says",
    "megatron_core": "read only beside megatron_config, which must be null",
    "loftq_config": "read only when init_lora_weights is 'loftq', which is refused",
    "eva_config": "says how A was initialised before training",
    "corda_config": "read only when init_lora_weights is 'corda', which is refused",
    "lora_ga_config": "read only when init_lora_weights is 'lora_ga', which is refused",
    "qalora_group_size": "read only beside use_qalora, which must be false",
    "runtime_config": "where peft computes, not what",
}

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "modules_to_save": (None, []),
    "megatron_config": (None,),
    "trainable_token_indices": (None, [], {}),
    "velora_config": (None,),
    "alora_invocation_tokens": (None, []),
    "use_qalora": (None, False),
    "monteclora_config": (None,),
    "layer_replication": (None, []),
    "target_parameters": (None, []),
    "use_bdlora": (None, False),
    "arrow_config": (None,),
    "kasa_config": (None,),
    "ensure_weight_tying": (None, False),
}
"""The values with which the field changes nothing."""

LEFT_TO_PEFT = frozenset(
    {"modules_to_save", "trainable_token_indices", "alora_invocation_tokens", "use_qalora",
     "use_bdlora", "ensure_weight_tying"}
)  # fmt: skip
"""Of those, what peft itself reads when it is set."""

REFUSED = frozenset(NEUTRAL) - LEFT_TO_PEFT
"""Those that nobody reads: they stand for other weights than LoRA's, or for noise."""

ADVICE: dict[str, str] = {
    "target_parameters": " LoRA on single parameters, such as fused experts, is not served; name"
    " linear modules in target_modules.",
    "layer_replication": " It makes a deeper model than the base that is served.",
}
"""What more there is to say about some of them."""

PLAIN_INITS = frozenset({"gaussian", "eva", "orthogonal", "mica"})
"""String values of init_lora_weights that leave the base as it is."""

BASE_CHANGING_INITS = ("pissa", "corda", "olora", "loftq", "lora_ga")
"""Prefixes of those that peft loads onto a base it has changed, or that it has not changed back."""


def is_neutral(field: str, value: Any) -> bool:
    return any(type(value) is type(neutral) and value == neutral for neutral in NEUTRAL[field])
