"""Tokenizer files beside an adapter: they split text as the base's do, or are refused by name."""

from pathlib import Path
from typing import Any

import pytest

from tests.compiler.text_job import read, write_files

TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [{"id": 3, "content": "<s>", "special": True}],
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "ByteLevel"},
    "post_processor": None,
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
}
CONFIG: dict[str, Any] = {
    "bos_token": "<s>",
    "eos_token": "<s>",
    "model_max_length": 10,
    "chat_template": "{{ messages }}",
}


@pytest.fixture
def base_folder(tmp_path: Path) -> Path:
    files = {"tokenizer.json": TOKENIZER, "tokenizer_config.json": CONFIG}
    return write_files(tmp_path / "base", files)


@pytest.fixture
def refused(base_folder: Path, tmp_path: Path):
    """The files that are refused, of those given as text or JSON."""

    def run(**files: Any) -> list[str]:
        own = tmp_path / f"own-{len(list(tmp_path.iterdir()))}"
        write_files(own, {name.replace("__", "."): content for name, content in files.items()})
        text, reasons = read(base_folder, own, vocab_size=4)
        assert reasons or not text.files()
        return [reason.subject for reason in reasons]

    return run


def test_equal_meaning_is_accepted(refused) -> None:
    merged = {**TOKENIZER, "padding": {"x": 1}, "truncation": {"max_length": 5}}
    merged["model"] = {**TOKENIZER["model"], "merges": ["a b"]}
    assert refused(tokenizer__json=merged) == []
    assert (
        refused(tokenizer_config__json={**CONFIG, "model_max_length": 7, "pad_token": "<s>"}) == []
    )
    assert refused(tokenizer_config__json={"padding_side": "left"}) == []
    map_file = {"bos_token": {"content": "<s>"}, "pad_token": "<s>"}
    assert refused(special_tokens_map__json=map_file) == []
    assert refused(added_tokens__json={"<s>": 3}) == []
    assert (
        refused(vocab__json=TOKENIZER["model"]["vocab"], merges__txt="#version: 0.2\na b\n") == []
    )
    assert refused(chat_template__jinja="{{ messages }}\n") == []


@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer", "post_processor", "decoder"])
def test_another_tokenizer_is_refused(refused, part: str) -> None:
    assert refused(tokenizer__json={**TOKENIZER, part: {"type": "Other"}}) == ["tokenizer.json"]


def test_every_difference_is_refused_by_file(refused) -> None:
    vocabulary = {**TOKENIZER["model"], "vocab": {"a": 1, "b": 0, "ab": 2}}
    assert refused(tokenizer__json={**TOKENIZER, "model": vocabulary}) == ["tokenizer.json"]
    name = ["tokenizer_config.json"]
    assert refused(tokenizer_config__json={"bos_token": "<t>"}) == name
    assert refused(tokenizer_config__json={"pad_token": "<t>"}) == name
    assert refused(tokenizer_config__json={"unk_token": "a"}) == name
    assert refused(tokenizer_config__json={"split_special_tokens": True}) == name
    assert refused(tokenizer_config__json={"add_bos_token": True}) == name
    assert refused(tokenizer_config__json={"added_tokens_decoder": {"5": {"content": "q"}}}) == name
    assert refused(special_tokens_map__json={"eos_token": "c"}) == ["special_tokens_map.json"]
    assert refused(added_tokens__json={"<extra>": 4}) == ["added_tokens.json"]
    assert refused(vocab__json={"a": 0}) == ["vocab.json"]
    assert refused(merges__txt="b a") == ["merges.txt"]


def test_what_cannot_be_compared_or_read_is_refused(refused, base_folder: Path) -> None:
    assert refused(tokenizer__model="binary") == ["tokenizer.model"]
    assert refused(tokenizer__json="{") == ["tokenizer.json"]
    assert refused(tokenizer_config__json="[1]") == ["tokenizer_config.json"]
    assert refused(tokenizer_config__json={"added_tokens_decoder": [1]}) == [
        "tokenizer_config.json"
    ]
    (base_folder / "tokenizer.json").unlink()
    assert refused(tokenizer__json=TOKENIZER) == ["tokenizer.json"]
    assert refused(vocab__json={"a": 0}) == ["vocab.json"]
