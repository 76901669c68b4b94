"""A chat template of an upload: which one counts, and which ones can be used."""

from pathlib import Path
from typing import Any

import pytest

from tests.compiler.text_job import read, write_files

ECHO = "{{ messages[0].content }}"


@pytest.fixture
def compare(tmp_path: Path):
    base = write_files(
        tmp_path / "base", {"tokenizer_config.json": {"chat_template": "base", "bos_token": "<s>"}}
    )

    def run(files: dict[str, Any], **options: Any):
        own = write_files(tmp_path / f"own-{len(list(tmp_path.iterdir()))}", files)
        return read(base, own, **options)

    return run


def config(template: Any) -> dict[str, Any]:
    return {"tokenizer_config.json": {"chat_template": template}}


@pytest.mark.parametrize(
    ("files", "used"),
    [
        ({"chat_template.jinja": ECHO}, "chat_template.jinja"),
        ({"chat_template.jinja": ECHO, **config("other")}, "chat_template.jinja"),
        (config(ECHO), "tokenizer_config.json"),
        (
            config([{"name": "tool_use", "template": "x"}, {"name": "default", "template": ECHO}]),
            "tokenizer_config.json",
        ),
        (config({"default": ECHO, "rag": "x"}), "tokenizer_config.json"),
        ({"chat_template.json": {"chat_template": ECHO}}, "chat_template.json"),
        (
            {"chat_template.json": {"chat_template": ECHO}, "chat_template.jinja": ECHO},
            "chat_template.jinja",
        ),
    ],
)
def test_one_template_counts(compare, files: dict[str, Any], used: str) -> None:
    text, refused = compare(files)
    assert not refused
    assert text.template == ECHO + "\n"
    assert text.files() == {"chat_template.jinja": (ECHO + "\n").encode()}
    assert used in text.used_files


@pytest.mark.parametrize(
    "files",
    [
        {"chat_template.jinja": "base"},
        {"chat_template.jinja": "base\n"},
        {"chat_template.jinja": b"base\r\n"},
        config("base"),
        {"chat_template.json": {"chat_template": "base"}},
        {"tokenizer_config.json": {"padding_side": "left"}},
    ],
)
def test_the_bases_template_is_no_own_one(compare, files: dict[str, Any]) -> None:
    text, refused = compare(files)
    assert not refused
    assert not text.files()
    assert not text.used_files


def test_line_ends_make_no_difference_but_empty_lines_do(compare) -> None:
    one = compare({"chat_template.jinja": b"a\r\nb"})[0]
    assert one.template == "a\nb\n"
    assert compare({"chat_template.jinja": "a\nb\n"})[0].files() == one.files()
    assert compare({"chat_template.jinja": "a\nb\n\n"})[0].files() != one.files()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"chat_template.jinja": "{% if %}"}, "Expected an expression"),
        ({"chat_template.jinja": "{{ raise_exception('not you') }}"}, "refuses: not you"),
        ({"chat_template.jinja": "{{ messages[0].content.nothing() }}"}, "no attribute"),
        ({"chat_template.jinja": "{{ 'a' * 10 ** 12 }}"}, "more time or memory"),
        ({"chat_template.jinja": "x" * 101}, "of 102 bytes; 100 are allowed"),
        ({"chat_template.jinja": b"\xff"}, "cannot be read"),
        (config("\ud800"), "no valid text"),
        (config([{"name": "tool", "template": "x"}]), "none is called default"),
        (config(7), "cannot be read"),
        (
            {"chat_template.json": {"chat_template": "x"}, "chat_template.jinja": "y"},
            "another chat template than chat_template.jinja",
        ),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(
    compare, files: dict[str, Any], said: str
) -> None:
    _, refused = compare(files, max_chat_template_bytes=100)
    assert len(refused) == 1
    assert said in refused[0].message
    assert refused[0].subject in files


@pytest.mark.parametrize(
    "template",
    [
        "{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}x",
        "{% if messages | length < 3 %}{{ raise_exception('longer please') }}{% endif %}x",
        "{% if bos_token != '<s>' %}{{ raise_exception('no bos') }}{% endif %}x",
        "{% if tools or documents or not add_generation_prompt %}{{ 1 / 0 }}{% endif %}x",
    ],
)
def test_a_template_that_renders_some_conversation_is_accepted(compare, template: str) -> None:
    text, refused = compare({"chat_template.jinja": template})
    assert not refused
    assert text.template == template + "\n"


def test_a_base_without_a_template_leaves_the_adapters(tmp_path: Path) -> None:
    base = write_files(tmp_path / "base", {})
    own = write_files(tmp_path / "own", {"chat_template.jinja": ECHO})
    text, refused = read(base, own)
    assert not refused
    assert text.template == ECHO + "\n"


def test_a_template_that_the_bases_tokenizer_does_not_read_is_not_the_bases(tmp_path: Path) -> None:
    files = {"chat_template.json": {"chat_template": ECHO}}
    base = write_files(tmp_path / "base", files)
    own = write_files(tmp_path / "own", files)
    assert read(base, own)[0].template == ECHO + "\n"
