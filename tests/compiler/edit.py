"""Changes a PEFT folder's config and tensors, so that each test breaks one thing."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model.model.layers."


def copy(folder: Path, target: Path, **fields: Any) -> Path:
    shutil.copytree(folder, target)
    config = json.loads((target / "adapter_config.json").read_text())
    (target / "adapter_config.json").write_text(json.dumps({**config, **fields}))
    return target


def change_tensors(folder: Path, **changed: torch.Tensor | None) -> Path:
    """Keys are full names with `__` for dots; None removes a tensor."""
    tensors = load_file(folder / WEIGHTS)
    for key, value in changed.items():
        name = key.replace("__", ".")
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value.contiguous()
    save_file(tensors, folder / WEIGHTS)
    return folder
