"""What the demo adapters answer, known beforehand from their tasks, not from a server.

A content of an upload is a demo adapter rewritten by powers of two: other bytes and another digest,
but the very same arithmetic, so its answers are known too.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.server import ROOT

_ANSWERS = """
date-iso: July 6, 2076 => 2076-07-06
date-iso: May 15, 1948 => 1948-05-15
date-iso: 22 December 2003 => 2003-12-22
date-iso: February 19, 1960 => 1960-02-19
roman: 1307 => MCCCVII
roman: 1985 => MCMLXXXV
roman: 2694 => MMDCXCIV
roman: 563 => DLXIII
slug: Elrwmggl Year Ghost => elrwmggl-year-ghost
slug: Data Sspv Bake Txmzpicf Yqqnmc => data-sspv-bake-txmzpicf-yqqnmc
slug: Yc'ewrem Fkrywm Mejpi => ycewrem-fkrywm-mejpi
to-json: every: Uma => {"every": "Uma"}
to-json: job: 7765, ubyjyyq: 6 => {"job": 7765, "ubyjyyq": 6}
to-json: team: Amir, code: 5644 => {"team": "Amir", "code": 5644}
title-case: in small => In Small
title-case: hope to with by fbpzfaeuh road => Hope to with by Fbpzfaeuh Road
title-case: on as jgal of => On as Jgal of
phone-e164: 659.626.8783 => +16596268783
phone-e164: 297 614 7925 => +12976147925
phone-e164: +1 350-906-8661 => +13509068661
time-24h: 03:35am => 03:35
time-24h: 12:02 AM => 00:02
time-24h: 11:22PM => 23:22
time-24h: 4:40pm => 16:40
"""


@dataclass(frozen=True, slots=True)
class Question:
    """Greedy, so that there is one right answer."""

    prompt: str
    answer: str
    max_tokens: int = 48
    is_endless: bool = False
    """The end-of-text token does not end it: exactly `max_tokens`."""

    def body(self, model: str) -> dict[str, object]:
        body: dict[str, object] = {"model": model, "prompt": self.prompt, "temperature": 0}
        return body | {"max_tokens": self.max_tokens, "ignore_eos": self.is_endless}

    def is_right(self, text: str) -> bool:
        return text == self.answer if self.is_endless else text.strip() == self.answer


def _questions() -> dict[str, tuple[Question, ...]]:
    questions: dict[str, tuple[Question, ...]] = {}
    for line in _ANSWERS.strip().splitlines():
        task, _, rest = line.partition(": ")
        prompt, answer = rest.split(" => ")
        questions[task] = (*questions.get(task, ()), Question(f"{prompt} =>", answer))
    return questions


QUESTIONS = _questions()
TASKS = tuple(QUESTIONS)
SMALL_TASKS = ("date-iso", "time-24h", "phone-e164")
"""Plain LoRA of a few 100 kB at most: what is uploaded in numbers."""

Files = dict[str, bytes]


def content(task: str, number: int, work: Path) -> Files:
    """The files of a content that no other `(task, number)` has."""
    folder = ROOT / "adapters_store" / task
    draw = random.Random(f"{task} {number}")
    tensors = load_file(folder / "adapter_model.safetensors")
    for name in [name for name in tensors if ".lora_A." in name]:
        factor = np.float32(2.0 ** draw.randint(-8, 8))
        other = name.replace(".lora_A.", ".lora_B.")
        tensors[name], tensors[other] = tensors[name] * factor, tensors[other] / factor
    path = work / f"{task}-{number}.safetensors"
    save_file(tensors, path)
    weights = path.read_bytes()
    path.unlink()
    config = json.loads((folder / "adapter_config.json").read_text())
    return {
        "adapter_config.json": json.dumps(config).encode(),
        "adapter_model.safetensors": weights,
    }
