"""A LoRA config, checked field by field and brought into the types the planner works with."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from service.compiler.kinds.lora_fields import (
    ADVICE,
    BASE_CHANGING_INITS,
    NEUTRAL,
    PLAIN_INITS,
    USED,
    WITHOUT_EFFECT,
    is_neutral,
)
from service.compiler.kinds.targets import TargetRule, pattern_key
from service.compiler.refusals import Refusals

Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LoraConfig:
    rank: int
    alpha: float
    rank_pattern: dict[str, int]
    alpha_pattern: dict[str, float]
    is_rank_stabilised: bool
    bias: str
    has_lora_bias: bool
    is_dora: bool
    rule: TargetRule

    def rank_of(self, path: str) -> int:
        key = pattern_key(tuple(self.rank_pattern), path)
        return self.rank if key is None else self.rank_pattern[key]

    def scaling_of(self, path: str) -> float:
        key = pattern_key(tuple(self.alpha_pattern), path)
        alpha = self.alpha if key is None else self.alpha_pattern[key]
        rank = self.rank_of(path)
        return alpha / math.sqrt(rank) if self.is_rank_stabilised else alpha / rank


def parse_config(raw: Config, refusals: Refusals) -> LoraConfig:
    """Raises `AdapterRefused` when any field cannot be honoured."""
    _check_tables(raw, refusals)
    check_init(raw, refusals)
    _check_combinations(raw, refusals)
    reader = _Reader(raw, refusals)
    parsed = LoraConfig(
        rank=reader.read("r", 8, _is_rank, "a positive integer"),
        alpha=reader.read("lora_alpha", 8, _is_number, "a finite number"),
        rank_pattern=reader.read("rank_pattern", {}, _is_rank_pattern, "patterns to ranks"),
        alpha_pattern=reader.read("alpha_pattern", {}, _is_alpha_pattern, "patterns to numbers"),
        is_rank_stabilised=reader.read("use_rslora", False, _is_bool, "true or false"),
        bias=reader.read("bias", "none", _is_bias, "'none', 'all' or 'lora_only'"),
        has_lora_bias=reader.read("lora_bias", False, _is_bool, "true or false"),
        is_dora=reader.read("use_dora", False, _is_bool, "true or false"),
        rule=_read_rule(reader),
    )
    refusals.raise_if_any()
    return parsed


class _Reader:
    def __init__(self, raw: Config, refusals: Refusals) -> None:
        self._raw = raw
        self._refusals = refusals

    def read(self, field: str, default: Any, is_valid: Callable[[Any], bool], wanted: str) -> Any:
        value = self._raw.get(field)
        if value is None:
            return default
        if is_valid(value):
            return value
        self._refusals.add("invalid_field", field, f"The config field {field!r} must be {wanted}.")
        return default


def _read_rule(reader: _Reader) -> TargetRule:
    wanted = "a list of module names or a regular expression"
    include = reader.read("target_modules", None, _is_choice, wanted)
    exclude = reader.read("exclude_modules", [], _is_choice, wanted)
    layers = reader.read("layers_to_transform", [], _is_layers, "layer numbers")
    pattern = reader.read("layers_pattern", [], _is_choice, "a name or a list of names")
    return TargetRule(
        include=_choice([] if include is None else include),
        exclude=_choice(exclude),
        layers=(layers,) if isinstance(layers, int) else (tuple(layers) or None),
        layers_pattern=(pattern,) if isinstance(pattern, str) else tuple(pattern),
    )


def _choice(value: Any) -> str | frozenset[str]:
    return value if isinstance(value, str) else frozenset(value)


def _check_tables(raw: Config, refusals: Refusals) -> None:
    check_neutral(raw, frozenset(NEUTRAL), refusals)
    for field in sorted(raw.keys() - USED - WITHOUT_EFFECT.keys() - NEUTRAL.keys()):
        if raw[field] is not None:
            message = f"The config field {field!r} is unknown; only null is accepted for it."
            refusals.add("unknown_field", field, message)


def check_neutral(raw: Config, fields: frozenset[str], refusals: Refusals) -> None:
    for field in sorted(fields & raw.keys()):
        if not is_neutral(field, raw[field]):
            message = f"The config field {field!r} is set to something that is not supported."
            message += ADVICE.get(field, "")
            refusals.add("unsupported_field", field, message)


def check_init(raw: Config, refusals: Refusals) -> None:
    init = raw.get("init_lora_weights", True)
    if init is None or isinstance(init, bool):
        return
    text = init.lower() if isinstance(init, str) else ""
    if text.startswith(BASE_CHANGING_INITS):
        advice = (
            f"init_lora_weights={init!r} was trained on a changed copy of the base. Save it"
            " converted to plain LoRA (save_pretrained: path_initial_model_for_weight_conversion)."
        )
        refusals.add("unconverted_init", "init_lora_weights", advice)
    elif text not in PLAIN_INITS:
        message = f"init_lora_weights={init!r} is not known."
        refusals.add("unsupported_field", "init_lora_weights", message)


def _check_combinations(raw: Config, refusals: Refusals) -> None:
    """What peft itself refuses to load."""
    targets, init = raw.get("target_modules"), raw.get("init_lora_weights", True)
    if targets is None or targets == []:
        message = "target_modules is empty: name the modules that the adapter was trained on."
        refusals.add("invalid_field", "target_modules", message)
    for field in ("layers_to_transform", "layers_pattern"):
        if isinstance(targets, str) and raw.get(field) is not None:
            message = f"{field!r} cannot be combined with a target_modules string."
            refusals.add("invalid_field", field, message)
    if raw.get("layers_pattern") and raw.get("layers_to_transform") is None:
        message = "layers_pattern needs layers_to_transform."
        refusals.add("invalid_field", "layers_pattern", message)
    if raw.get("lora_bias") and (raw.get("use_dora") or not isinstance(init, bool)):
        message = "lora_bias cannot be combined with use_dora or a named init_lora_weights."
        refusals.add("invalid_field", "lora_bias", message)
    if raw.get("use_dora") and isinstance(init, str) and init.lower() == "mica":
        refusals.add("invalid_field", "use_dora", "use_dora cannot be combined with 'mica'.")


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_rank(value: Any) -> bool:
    return type(value) is int and 0 < value < 1 << 31


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e30


def _is_bias(value: Any) -> bool:
    return value in ("none", "all", "lora_only")


def _is_rank_pattern(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_rank, value.values())) and _are_keys(value)


def _is_alpha_pattern(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values())) and _are_keys(value)


def _is_choice(value: Any) -> bool:
    if isinstance(value, str):
        return _are_regexes((value,))
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_layers(value: Any) -> bool:
    return type(value) is int or (
        isinstance(value, list) and all(type(item) is int for item in value)
    )


def _are_keys(pattern: dict[str, Any]) -> bool:
    """As peft embeds them, which forbids what is legal alone (flags, unbalanced groups)."""
    return _are_regexes(rf"(.*\.)?({key})$" for key in pattern)


def _are_regexes(values: Iterable[str]) -> bool:
    try:
        for value in values:
            re.compile(value)
    except (re.error, RecursionError, OverflowError):
        return False
    return True
