"""Bases with random weights and the shapes of real ones, with a tokenizer that has really learnt.

Speed depends on shapes; tokenizing and detokenizing depend on the tokens, hence a trained one.
"""

import sysconfig
from collections.abc import Iterator
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


def training_text() -> Iterator[str]:
    """Python's own sources, file by file: text that is on every machine."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = {path for pattern in ("*.py", "*/*.py") for path in root.glob(pattern)}
    for path in sorted(files):
        if path.parent.name != "site-packages":
            yield path.read_text(errors="replace")


def _tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    tokenizer = ByteLevelBPETokenizer()
    special = ["<unk>", "<s>", "</s>"]
    tokenizer.train_from_iterator(
        training_text(), vocab_size=vocabulary, special_tokens=special, show_progress=False
    )
    # A random model writes all ids that it has, and an id without text is no event of a stream.
    assert tokenizer.get_vocab_size() == vocabulary, "too little text for so many tokens"
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
    )
