"""peft, solo, float32: the model that says what is right."""

import copy
from functools import lru_cache
from pathlib import Path

import torch
from peft import PeftModel
from peft.tuners.lora.variants import calculate_alora_offsets
from transformers import PreTrainedModel

from tests.contract.architectures import load_reference


@lru_cache(maxsize=2)
def _loaded(base: Path) -> PreTrainedModel:
    return load_reference(base)


def fresh_model(base: Path) -> PreTrainedModel:
    """peft changes the model that it is given. Never give this one to `lru_cache`d readers."""
    return copy.deepcopy(_loaded(base))


class Oracle:
    def __init__(self, base: Path, folder: Path | None) -> None:
        model = fresh_model(base)
        self._peft = PeftModel.from_pretrained(model, folder).eval() if folder else None
        self._model = self._peft or model

    @torch.no_grad()
    def logits(
        self, token_ids: list[int], num_prompt: int | None = None, task: int | None = None
    ) -> torch.Tensor:
        """`[T, vocab]`; as many rows more in front as peft gives virtual tokens.

        The first `num_prompt` tokens are the prompt, all of them by default.
        """
        ids = torch.tensor([token_ids])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
        offsets = self._alora_offsets(ids, num_prompt)
        if self._peft is not None and offsets is not None:
            # As `generate` does it. `forward` would look for the invocation in the answer as well.
            with self._peft._enable_peft_forward_hooks(alora_offsets=offsets):
                return self._peft.base_model(**inputs).logits[0]
        tasks = {} if task is None else {"task_ids": torch.tensor([task])}
        logits: torch.Tensor = self._model(**inputs, **tasks).logits[0]
        return logits

    def _alora_offsets(self, ids: torch.Tensor, num_prompt: int | None) -> list[int | None] | None:
        """Rows from the end on which the adapter acts; None = no aLoRA."""
        config = self._peft and self._peft.active_peft_config
        if not getattr(config, "alora_invocation_tokens", None):
            return None
        prompt = ids[:, :num_prompt]
        (offset,) = calculate_alora_offsets(self._peft.peft_config, "default", prompt)
        more = ids.shape[1] - prompt.shape[1]
        return [None if offset is None else offset + more]
