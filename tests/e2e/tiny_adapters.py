"""Rank-2 adapters on the queries, written and merged by hand: hundreds of them in a moment."""

import copy
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

RANK, ALPHA = 2, 8
COMPILED_BYTES = 2048
"""Two layers, A `[2, 64]` and B `[64, 2]` in float32."""
TIE = 1e-4

Deltas = dict[str, tuple[torch.Tensor, torch.Tensor]]


def make_deltas(seed: int) -> Deltas:
    draw = torch.Generator().manual_seed(seed)
    return {
        f"model.layers.{layer}.self_attn.q_proj": (
            torch.randn(RANK, 64, generator=draw) * 0.3,
            torch.randn(64, RANK, generator=draw) * 0.3,
        )
        for layer in range(2)
    }


def write(folder: Path, seed: int) -> Path:
    folder.mkdir(parents=True)
    tensors = {}
    for path, (a, b) in make_deltas(seed).items():
        tensors[f"base_model.model.{path}.lora_A.weight"] = a
        tensors[f"base_model.model.{path}.lora_B.weight"] = b
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA}
    config["target_modules"] = ["q_proj"]
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


class Reference:
    """Merged weights, float32, one adapter at a time."""

    def __init__(self, base: Path) -> None:
        self._model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            base, dtype=torch.float32
        ).eval()
        self._weights = copy.deepcopy(self._model.state_dict())

    @torch.no_grad()
    def agrees(self, seed: int, prompt: list[int], outputs: list[int]) -> bool:
        """Whether `outputs` is the greedy continuation, ties aside."""
        for path, (a, b) in make_deltas(seed).items():
            weight = self._model.get_submodule(path).weight
            weight.copy_(self._weights[f"{path}.weight"] + ALPHA / RANK * b @ a)
        logits = self._model(torch.tensor([[*prompt, *outputs[:-1]]])).logits[0]
        for row, token_id in zip(logits[len(prompt) - 1 :], outputs, strict=True):
            best, second = row.topk(2).values
            if best - second > TIE and row.argmax().item() != token_id:
                return False
        return True


def output_ids(answer: dict) -> list[int]:
    """The test vocabulary spells token 17 as `t17`."""
    return [int(word[1:]) for word in answer["choices"][0]["text"].split()]
