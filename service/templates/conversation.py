"""What a chat template is given, as `PreTrainedTokenizerBase.apply_chat_template` gives it."""

from collections.abc import Mapping, Sequence
from typing import Any

SPECIAL_TOKENS = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
)  # fmt: skip


def prompt_variables(
    messages: Sequence[Mapping[str, str]], special_tokens: Mapping[str, str]
) -> dict[str, Any]:
    return {
        **special_tokens,
        "messages": [dict(message) for message in messages],
        "tools": None,
        "documents": None,
        "add_generation_prompt": True,
    }
