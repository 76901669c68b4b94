"""Which files of a PEFT folder mean something here; decided by name alone, nothing is opened."""

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLED_WEIGHTS = frozenset({"adapter_model.bin", "adapter_model.pt", "adapter_model.pth"})
TOKENIZER_FILES = frozenset(
    {
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
        "vocab.json", "merges.txt", "tokenizer.model",
    }
)  # fmt: skip
CHAT_TEMPLATES = frozenset({"chat_template.jinja", "chat_template.json"})

VERSION_FILES = (CONFIG, WEIGHTS)
"""What every stored version consists of."""

CHAT_TEMPLATE = "chat_template.jinja"
ADDED_TOKENS = "added_tokens.json"
TEXT_FILES = (CHAT_TEMPLATE, ADDED_TOKENS)
"""What a version may have beside them, in a form of the compiler's own: never a client's bytes."""

READ_FILES = frozenset(VERSION_FILES) | TOKENIZER_FILES | CHAT_TEMPLATES
"""Everything else is dropped unread."""


def file_name_problem(name: str, max_bytes: int) -> str | None:
    """Why a client's file name cannot be used, or None. Only a plain name is allowed."""
    if not name or name in (".", ".."):
        return "is empty or relative"
    if "/" in name or "\\" in name:
        return "contains a path"
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        return "contains control characters"
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return "is too long" if length > max_bytes else None
