"""Bases with random weights and the shapes of real ones, with a tokenizer that has really learnt.

Speed depends on shapes; tokenizing and detokenizing depend on the tokens, hence a trained one.
"""

import sysconfig
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from tests.bench.random_llama import Size

BASES = {
    "base-s": Size(768, 3072, 12, 12, 12, vocabulary=32000, max_positions=2304),
    "base-m": Size(2048, 5632, 22, 32, 4, vocabulary=32000, max_positions=2304),
}
"""162 million parameters, shaped like GPT-2 with gates; 1.1 billion, shaped like TinyLlama."""
GPU_BASES = {"base-l": Size(4096, 11008, 32, 32, 32, vocabulary=32000, max_positions=2304)}
"""6.7 billion, shaped like Llama 2."""

FIRST_WORD = 300
"""Token ids from here on stand for more than a byte."""


def make_base(size: Size, folder: Path) -> Path:
    """In bfloat16, as people have them. Kept if it is there."""
    if (folder / "tokenizer.json").exists():
        return folder
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(size.config(), dtype=torch.bfloat16)
    model.save_pretrained(folder)
    _tokenizer(size.vocabulary).save_pretrained(folder)
    return folder


def training_texts() -> list[Path]:
    """Python's own sources: text that is on every machine."""
    return sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))


def _tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    tokenizer = ByteLevelBPETokenizer()
    special = ["<unk>", "<s>", "</s>"]
    files = [str(path) for path in training_texts()]
    tokenizer.train(files, vocab_size=vocabulary, special_tokens=special, show_progress=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
    )
