import pytest

from service.adapters.files import file_name_problem
from service.adapters.naming import Selector, is_valid_name, parse_selector


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "0", "x" * 128])
def test_names(name: str) -> None:
    assert is_valid_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".a",
        "-a",
        "_a",
        "a/b",
        "a\\b",
        "a b",
        "a@1",
        "a:b",
        "x" * 129,
        "é",
        "a\n",
        "\0",
    ],
)
def test_what_is_no_name(name: str) -> None:
    assert not is_valid_name(name)


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("a", Selector("a")),
        ("a@12", Selector("a", number=12)),
        ("a@007", Selector("a", number=7)),
        ("a@sha256:0123abcd", Selector("a", digest_prefix="0123abcd")),
        ("a@stable", Selector("a", alias="stable")),
        ("a@v1.2-x_y", Selector("a", alias="v1.2-x_y")),
        ("t-1/a", Selector("t-1/a")),
        ("t/a@stable", Selector("t/a", alias="stable")),
        ("default/a", None),
        ("T/a", None),
        ("t/", None),
        ("/a", None),
        ("t/a/b", None),
        ("a@t/b", None),
        ("a@", None),
        ("@1", None),
        ("a@b@c", None),
        ("a@sha256:0123abc", None),
        ("a@sha256:0123ABCD", None),
        ("a@Stable", None),
        ("a@-1", None),
        ("a@" + "9" * 30, None),
        ("a\n@1", None),
        ("", None),
    ],
)
def test_selectors(text: str, selector: Selector | None) -> None:
    assert parse_selector(text) == selector


@pytest.mark.parametrize("name", ["adapter_config.json", ".gitattributes", "a b", "ä.txt"])
def test_file_names(name: str) -> None:
    assert file_name_problem(name, 255) is None


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "a\0", "a\n", "\x7f", "ä" * 128, "\ud800"]
)
def test_what_is_no_file_name(name: str) -> None:
    assert file_name_problem(name, 255)
