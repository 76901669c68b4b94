"""How many bits a base has: what its folder says, and what was asked for."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from service.base import Quantization
from service.errors import ConfigurationError

_PACKAGE = "bitsandbytes"
_REQUIREMENT = "bitsandbytes>=0.50,<0.51"


def resolve_quantization(folder: Path, asked: Quantization) -> Quantization:
    """A folder that is quantised already stays as it is.

    Raises `ConfigurationError` where that is not what was asked for, or cannot be loaded.
    """
    stored = stored_quantization(folder)
    if "none" not in (stored, asked) and stored != asked:
        raise ConfigurationError(
            f"quantization: the base is stored as {stored}, so it cannot be loaded as {asked}."
        )
    found = asked if stored == "none" else stored
    if found != "none" and importlib.util.find_spec(_PACKAGE) is None:
        raise ConfigurationError(
            f"quantization: a base in {found} needs a package that is not installed; "
            f"pip install '{_REQUIREMENT}' brings it."
        )
    return found


def stored_quantization(folder: Path) -> Quantization:
    """Of the folder's own files. Raises `ConfigurationError` for other ways to quantise."""
    config = quantization_config(folder)
    if not config:
        return "none"
    method = config.get("quant_method")
    if method == _PACKAGE and config.get("load_in_8bit"):
        return "int8"
    kind = config.get("bnb_4bit_quant_type")
    if method == _PACKAGE and config.get("load_in_4bit") and kind in ("nf4", "fp4"):
        return "nf4" if kind == "nf4" else "fp4"
    raise ConfigurationError(
        f"base_model: it is quantised by {str(method)!r} in a way that is not served; served are "
        f"{_PACKAGE}'s nf4, fp4 and int8."
    )


def quantization_config(folder: Path) -> dict[str, Any]:
    """As the folder's config has it; empty when the base is not quantised."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return {}  # Said in full by whoever loads the config.
    text = config.get("text_config") or {}
    found = config.get("quantization_config") or text.get("quantization_config")
    return found if isinstance(found, dict) else {}
