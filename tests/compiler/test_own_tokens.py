"""Tokens that an upload adds: kept when the base has room for them, refused with the way out."""

from pathlib import Path
from typing import Any

import pytest

from service.adapters.own_tokens import AddedToken, OwnTokens
from service.adapters.safetensors_header import MalformedFile
from tests.compiler.test_tokenizer_files import CONFIG, TOKENIZER
from tests.compiler.text_job import read, write_files


def listed(content: str, number: int, **flags: Any) -> dict[str, Any]:
    return {"id": number, "content": content, "special": False, **flags}


def token(content: str, number: int, **flags: bool) -> AddedToken:
    plain = {"special": False, "lstrip": False, "rstrip": False, "single_word": False}
    merged = {**plain, **flags}
    return AddedToken(content, number, normalized=not merged["special"], **merged)


def added(*tokens: dict[str, Any]) -> dict[str, Any]:
    return {**TOKENIZER, "added_tokens": [*TOKENIZER["added_tokens"], *tokens]}


@pytest.fixture
def compare(tmp_path: Path):
    base = write_files(
        tmp_path / "base", {"tokenizer.json": TOKENIZER, "tokenizer_config.json": CONFIG}
    )

    def run(files: dict[str, Any], **options: Any):
        own = write_files(tmp_path / f"own-{len(list(tmp_path.iterdir()))}", files)
        return read(base, own, **options)

    return run


def reasons(found: tuple[Any, Any]) -> list[tuple[str, str]]:
    return [(reason.code, reason.subject) for reason in found[1]]


def test_new_tokens_are_kept_with_their_flags(compare) -> None:
    files = {"tokenizer.json": added(listed("<a>", 4), listed("<b>", 5, special=True, lstrip=True))}
    text, refused = compare(files, vocab_size=6)
    assert not refused
    assert text.tokens.tokens == (token("<a>", 4), token("<b>", 5, special=True, lstrip=True))
    assert text.template is None
    assert set(text.files()) == {"added_tokens.json"}
    assert text.used_files == {"tokenizer.json"}


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config.json": {"added_tokens_decoder": {"4": {"content": "<a>"}}}},
        {"added_tokens.json": {"<a>": 4}},
        {"tokenizer.json": added(listed("<a>", 4)), "added_tokens.json": {"<a>": 4, "<s>": 3}},
        {
            "tokenizer.json": added(listed("<a>", 4, normalized=True)),
            "tokenizer_config.json": {**CONFIG, "added_tokens_decoder": {"4": {"content": "<a>"}}},
        },
    ],
)
def test_every_file_that_adds_tokens_counts(compare, files: dict[str, Any]) -> None:
    text, refused = compare(files)
    assert not refused
    assert text.tokens.tokens == (token("<a>", 4),)


def test_legacy_names_make_a_token_special(compare) -> None:
    files = {
        "added_tokens.json": {"<a>": 4, "<b>": 5},
        "special_tokens_map.json": {"additional_special_tokens": ["<b>"], "pad_token": "<a>"},
    }
    text, refused = compare(files)
    assert not refused
    assert text.tokens.tokens == (token("<a>", 4, special=True), token("<b>", 5, special=True))
    assert text.tokens.special_tokens == {}


def test_a_token_without_a_row_is_refused_with_the_way_out(compare) -> None:
    found = compare({"tokenizer.json": added(listed("<a>", 4), listed("<b>", 5))}, vocab_size=5)
    assert reasons(found) == [("added_token_outside_vocabulary", "tokenizer.json")]
    message = found[1][0].message
    assert "'<b>' has the id 5" in message
    assert "rows for 5 tokens" in message
    assert "resized" in message


@pytest.mark.parametrize(
    "tokens",
    [
        [listed("<a>", 5)],
        [listed("<a>", 4), listed("<b>", 6)],
        [listed("<b>", 5), listed("<a>", 4)],
        [listed("<a>", 2)],
        [listed("<a>", 3)],
        [listed("a", 4)],
        [listed("<a>", 4), listed("<a>", 5)],
    ],
)
def test_an_id_that_transformers_would_not_give_is_refused(compare, tokens: list[Any]) -> None:
    found = compare({"tokenizer.json": added(*tokens)})
    assert set(reasons(found)) == {("tokenizer_differs", "tokenizer.json")}


def test_a_token_of_the_base_may_not_change_or_go(compare) -> None:
    without = {**TOKENIZER, "added_tokens": []}
    assert reasons(compare({"tokenizer.json": without})) == [
        ("tokenizer_differs", "tokenizer.json")
    ]
    for flags in ({"special": False}, {"special": True, "lstrip": True}):
        changed = {**TOKENIZER, "added_tokens": [{"id": 3, "content": "<s>", **flags}]}
        assert reasons(compare({"tokenizer.json": changed})) == [
            ("tokenizer_differs", "tokenizer.json")
        ]


def test_a_word_of_the_base_may_become_special(compare) -> None:
    """As transformers does with a special token that nobody has added."""
    text, refused = compare({"tokenizer_config.json": {**CONFIG, "pad_token": "ab"}})
    assert not refused
    assert text.tokens == OwnTokens((token("ab", 2, special=True),))


def test_a_special_token_without_an_id_is_refused(compare) -> None:
    for files in (
        {"tokenizer_config.json": {**CONFIG, "pad_token": "<pad>"}},
        {"tokenizer_config.json": {**CONFIG, "extra_special_tokens": ["<x>"]}},
        {"tokenizer_config.json": {**CONFIG, "image_token": "<image>"}},
    ):
        assert reasons(compare(files)) == [("tokenizer_differs", "tokenizer_config.json")]


def test_an_own_end_is_kept_and_other_roles_only_where_they_matter(compare) -> None:
    roles = {"eos_token": "<end>", "pad_token": "<end>", "bos_token": "<end>"}
    files: dict[str, Any] = {
        "tokenizer.json": added(listed("<end>", 4, special=True)),
        "tokenizer_config.json": {**CONFIG, **roles},
    }
    text, refused = compare(files)
    assert not refused
    assert text.tokens.special_tokens == {"eos_token": "<end>"}
    files["chat_template.jinja"] = "{{ bos_token }}{{ messages[0].content }}"
    text, refused = compare(files)
    assert text.tokens.special_tokens == {"eos_token": "<end>", "bos_token": "<end>"}


def test_the_bases_template_with_other_special_tokens_is_an_own_one(tmp_path: Path) -> None:
    config = {**CONFIG, "chat_template": "{{ bos_token }}{{ messages[0].content }}"}
    base = write_files(
        tmp_path / "base", {"tokenizer.json": TOKENIZER, "tokenizer_config.json": config}
    )
    own = write_files(tmp_path / "own", {"tokenizer_config.json": {**config, "bos_token": None}})
    text, refused = read(base, own)
    assert not refused
    assert text.template == config["chat_template"] + "\n"
    assert text.tokens.special_tokens == {"bos_token": None}
    same = write_files(tmp_path / "same", {"tokenizer_config.json": config})
    assert not read(base, same)[0].files()


def test_what_stands_around_every_prompt_may_not_change(tmp_path: Path) -> None:
    processor = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}]}
    tokenizer = {**added(listed("<b>", 4, special=True)), "post_processor": processor}
    files = {"tokenizer.json": tokenizer, "tokenizer_config.json": CONFIG}
    base = write_files(tmp_path / "base", files)
    for role in ("bos_token", "eos_token"):
        config = {**CONFIG, role: "<b>"}
        own = write_files(tmp_path / role, {**files, "tokenizer_config.json": config})
        found = read(base, own)
        assert reasons(found) == [("tokenizer_differs", "tokenizer_config.json")]


def test_too_many_tokens_are_refused(compare) -> None:
    tokens = [listed(f"<{number}>", number) for number in range(4, 14)]
    found = compare({"tokenizer.json": added(*tokens)}, max_added_tokens=9)
    assert reasons(found) == [("too_many_tokens", "tokenizer.json")]


def test_a_token_as_long_as_a_page_is_refused(compare) -> None:
    found = compare({"tokenizer.json": added(listed("x" * 1001, 4))})
    assert reasons(found) == [("added_token_too_long", "tokenizer.json")]


def test_half_a_surrogate_pair_is_no_token(compare) -> None:
    found = compare({"tokenizer.json": added(listed("\ud800", 4))})
    assert reasons(found) == [("tokenizer_differs", "tokenizer.json")]


def test_a_stored_version_is_read_as_it_was_written(compare, tmp_path: Path) -> None:
    files = {
        "tokenizer.json": added(listed("<a>", 4, special=True)),
        "tokenizer_config.json": {**CONFIG, "eos_token": "<a>"},
        "chat_template.jinja": "{{ messages[0].content }}{{ eos_token }}",
    }
    text, _ = compare(files)
    stored = text.files()
    again, refused = compare({**stored, "record.json": "{}"}, is_stored=True)
    assert not refused
    assert again.files() == stored
    _, refused = compare(stored, is_stored=True, vocab_size=4)
    assert [reason.code for reason in refused] == ["added_token_outside_vocabulary"]
    _, refused = compare({"added_tokens.json": {"<a>": 4}}, is_stored=True)
    assert [reason.code for reason in refused] == ["invalid_file"]


@pytest.mark.parametrize(
    "data",
    [
        "[]",
        "{}",
        '{"tokens": [], "special_tokens": []}',
        '{"tokens": [], "special_tokens": {"eos_token": 3}}',
        '{"tokens": [{"content": "a"}], "special_tokens": {}}',
        '{"tokens": [{"content": "a", "id": "1", "special": true, "normalized": true,'
        ' "lstrip": true, "rstrip": true, "single_word": true}], "special_tokens": {}}',
        '{"tokens": [{"content": "a", "id": 1, "special": 1, "normalized": true,'
        ' "lstrip": true, "rstrip": true, "single_word": true}], "special_tokens": {}}',
    ],
)
def test_what_does_not_describe_tokens_is_malformed(data: str) -> None:
    with pytest.raises(MalformedFile):
        OwnTokens.from_bytes(data.encode())
