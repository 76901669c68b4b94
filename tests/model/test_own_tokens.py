"""An adapter's tokens: what comes of its files is what `AutoTokenizer` makes of the same folder."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoTokenizer, LlamaTokenizer, PreTrainedTokenizerFast

from service.adapters.own_tokens import AddedToken as OwnToken, OwnTokens
from service.model.tokenizer import HFTokenizer
from service.text import IncrementalDetokenizer
from tests.compiler.text_job import read

TEXT = ["the quick brown fox jumps over the lazy dog", "Grüße aus Köln", "x = 3.14; print(x)"]
SPECIAL = ["<s>", "</s>", "<pad>"]


def byte_level() -> Tokenizer:
    """As GPT-2, Llama 3 and Qwen have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT * 20, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 0)])
    return tokenizer


def metaspace() -> Tokenizer:
    """As Llama 2, Mistral and Gemma have it: spaces become letters, other bytes fall back."""
    tokens = [*SPECIAL, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=tokens, show_progress=False)
    tokenizer.train_from_iterator(TEXT * 20, trainer)
    return tokenizer


def unigram() -> Tokenizer:
    """As T5 and XGLM have it; the vocabulary is a list."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(
        vocab_size=80, special_tokens=[*SPECIAL, "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXT * 20, trainer)
    return tokenizer


def wrapped(make: Callable[[], Tokenizer]) -> Callable[[], Any]:
    return lambda: PreTrainedTokenizerFast(
        tokenizer_object=make(), bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def llama() -> LlamaTokenizer:
    """A class that makes its parts itself instead of reading them from `tokenizer.json`."""
    model = json.loads(metaspace().to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    return LlamaTokenizer(vocab=model["vocab"], merges=merges, pad_token="<pad>")


BASES: dict[str, Callable[[], Any]] = {
    "byte-level": wrapped(byte_level),
    "metaspace": wrapped(metaspace),
    "unigram": wrapped(unigram),
    "llama": llama,
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for name, make in BASES.items():
        tokenizer = make()
        tokenizer.add_tokens([AddedToken("known word", normalized=True)])
        folders[name] = tmp_path_factory.mktemp(name)
        tokenizer.save_pretrained(folders[name])
    return folders


def plain(tokenizer: Any) -> None:
    tokenizer.add_tokens(["<think>", "dogma", "fo"])


def special(tokenizer: Any) -> None:
    """As TRL's `setup_chat_format` leaves a tokenizer."""
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.pad_token = "<|im_end|>"


def flags(tokenizer: Any) -> None:
    tokenizer.add_tokens(
        [
            AddedToken("<l>", lstrip=True),
            AddedToken("<r>", rstrip=True, normalized=False),
            AddedToken("cat", single_word=True),
            AddedToken("Ünï", normalized=True),
            AddedToken("<both>", lstrip=True, rstrip=True, special=True),
        ]
    )


def promoted(tokenizer: Any) -> None:
    """A token of the base that is special here, and a plain word of its vocabulary."""
    tokenizer.add_special_tokens({"sep_token": "known word", "mask_token": "e"})


CHANGES = [plain, special, flags, promoted]


def texts(tokenizer: Any) -> list[str]:
    draw = random.Random(7)
    pieces = [*SPECIAL, "known word", " the", "fox", "\n", "Ünï", "🙂", " ", "  ", "é", "e", "cat"]
    pieces += [token.content for token in tokenizer.added_tokens_decoder.values()]
    mixed = ["".join(draw.choices(pieces, k=draw.randrange(1, 12))) for _ in range(150)]
    return [*TEXT, "", "dogmatic <think>fo</think>", "<|im_start|>user\nHi<|im_end|>\n", *mixed]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", BASES)
def test_ids_and_texts_equal_transformers(
    bases: dict[str, Path], tmp_path: Path, name: str, change: Callable[[Any], None]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bases[name])
    num_before = len(tokenizer)
    change(tokenizer)
    tokenizer.save_pretrained(tmp_path / "own")
    expected = AutoTokenizer.from_pretrained(tmp_path / "own")
    found, reasons = read(bases[name], tmp_path / "own", vocab_size=len(tokenizer))
    assert not reasons
    assert found.tokens
    own = OwnTokens.from_bytes(found.tokens.to_bytes())
    base = HFTokenizer(AutoTokenizer.from_pretrained(bases[name]), frozenset())
    extended = base.with_own_tokens(own)
    assert extended.vocab_size == len(expected)
    _assert_same(extended, expected)
    _assert_same(base, AutoTokenizer.from_pretrained(bases[name]))
    assert base.vocab_size == num_before
    if change is special:
        assert own.special_tokens["eos_token"] == "<|im_end|>"
        assert extended.special_tokens["eos_token"] == "<|im_end|>"
        assert extended.token_id("<|im_end|>") == num_before + 1


def _assert_same(ours: HFTokenizer, theirs: Any) -> None:
    skipped = False
    for text in texts(theirs):
        for adds_special in (True, False):
            ids = theirs.encode(text, add_special_tokens=adds_special)
            assert ours.encode(text, adds_special) == ids, text
        for skips in (True, False):
            decoded = theirs.decode(ids, skip_special_tokens=skips)
            assert ours.decode(ids, skips) == decoded
        skipped |= theirs.decode(ids) != theirs.decode(ids, skip_special_tokens=True)
        detokenizer = IncrementalDetokenizer(ours)
        grown = "".join([*map(detokenizer.add, ids), detokenizer.flush()])
        assert grown == theirs.decode(ids, skip_special_tokens=True)
    assert skipped
    for number in range(len(theirs)):
        assert ours.decode([number], True) == theirs.decode([number], skip_special_tokens=True)
        assert ours.is_special(number) == (
            number in theirs.added_tokens_decoder and theirs.added_tokens_decoder[number].special
        )


def test_extending_copies_no_vocabulary(bases: dict[str, Path]) -> None:
    base = HFTokenizer(AutoTokenizer.from_pretrained(bases["byte-level"]), frozenset({1}))
    token = OwnToken("<new>", base.vocab_size, False, True, False, False, False)
    extended = base.with_own_tokens(OwnTokens((token,)))
    assert extended.encode("a<new>b", False)[1] == base.vocab_size
    assert extended.token_bytes(base.vocab_size) == b"<new>"
    assert extended.eos_token_ids == frozenset({1})
    assert base.token_id("<new>") is None


def test_a_token_that_would_get_another_id_is_refused(bases: dict[str, Path]) -> None:
    base = HFTokenizer(AutoTokenizer.from_pretrained(bases["byte-level"]), frozenset())
    for content, number in (("<new>", base.vocab_size + 1), ("<s>", 1), ("</s>", 0)):
        token = OwnToken(content, number, False, True, False, False, False)
        with pytest.raises(ValueError, match="do not fit"):
            base.with_own_tokens(OwnTokens((token,)))


def test_what_is_stored_is_small_and_canonical(bases: dict[str, Path], tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bases["metaspace"])
    special(tokenizer)
    tokenizer.save_pretrained(tmp_path / "a")
    found, _ = read(bases["metaspace"], tmp_path / "a", vocab_size=len(tokenizer))
    config = json.loads((tmp_path / "a" / "tokenizer_config.json").read_text())
    (tmp_path / "a" / "tokenizer_config.json").write_text(json.dumps(config, indent=7))
    again, _ = read(bases["metaspace"], tmp_path / "a", vocab_size=len(tokenizer))
    assert found.files() == again.files()
    assert len(found.files()["added_tokens.json"]) < 500
