"""The base alone over HTTP, against transformers' `generate` on a padded batch."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.bench.engine.figures import Figure
from tests.bench.engine.models import FIRST_WORD
from tests.bench.engine.runs import median_ratio, take_turns
from tests.bench.engine.setup import Setup
from tests.bench.machine_class import instruction_class
from tests.server import Server

_AMX = {"base-s": (1.65, 1.65), "base-m": (1.35, 1.35)}
_OTHER = {"base-s": (1.8, 1.5)}
LIMITS = _AMX if instruction_class() == "amx" else _OTHER
"""With few and with many answers at once."""


class Generate:
    """transformers in this process, in the dtype that is faster here."""

    def __init__(self, folder: Path, num_prompt: int, num_output: int, width: int) -> None:
        self._num_prompt, self._num_output = num_prompt, num_output
        trials = {}
        for dtype in (torch.bfloat16, torch.float32):
            self._model = _load(folder, dtype)
            self.tokens_per_s(width, num_output=4)
            trials[dtype] = self.tokens_per_s(width, num_output=max(num_output // 4, 2))
        self.dtype = max(trials, key=lambda dtype: trials[dtype])
        if self.dtype is not self._model.dtype:
            self._model = _load(folder, self.dtype)

    @torch.inference_mode()
    def tokens_per_s(self, width: int, num_output: int = 0) -> float:
        count = num_output or self._num_output
        vocabulary = self._model.config.vocab_size
        prompts = torch.randint(FIRST_WORD, vocabulary, (width, self._num_prompt))
        started = perf_counter()
        answer = self._model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            do_sample=False,
            min_new_tokens=count,
            max_new_tokens=count,
            pad_token_id=0,
        )
        seconds = perf_counter() - started
        assert answer.shape[1] == self._num_prompt + count
        return width * count / seconds


def _load(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    return model.eval()


def _ours(setup: Setup, server: Server, base: str, width: int) -> float:
    return setup.run(server, base, [base], width).tokens_per_s


def measure(setup: Setup) -> Iterator[Figure]:
    load = setup.load
    for base in setup.bases:
        limits = LIMITS.get(base, (None, None))
        theirs = Generate(setup.base(base), load.num_prompt, load.num_output, load.few)
        with setup.server(base) as server:
            for width, limit in zip((load.few, load.many), limits, strict=True):
                arms = {
                    "ours": partial(_ours, setup, server, base, width),
                    "theirs": partial(theirs.tokens_per_s, width),
                }
                setup.run(server, base, [base], width, num_requests=width)
                speed = take_turns(arms, load.rounds[base])
                dtype = str(theirs.dtype).removeprefix("torch.")
                yield Figure(
                    f"{base}, c={width}: served / generate",
                    median_ratio(speed["ours"], speed["theirs"]),
                    at_least=limit,
                    note=f"generate in {dtype}: {median(speed['theirs']):,.0f} tokens/s",
                )
