"""Decoding bit by bit equals decoding at once, and a stop string cuts at the same place."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings, strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from service.text import IncrementalDetokenizer, StopChecker, token_label
from tests.fakes import BOS, EOS, ByteTokenizer

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


class LibraryTokenizer(ByteTokenizer):
    """A tokenizer of the `tokenizers` library; its special tokens are those of the fake."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._tokenizer = tokenizer

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def is_special(self, token_id: int) -> bool:
        return False


def byte_level(merges: list[tuple[str, str]]) -> LibraryTokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = alphabet + [left + right for left, right in merges]
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return LibraryTokenizer(tokenizer)


def sentencepiece() -> LibraryTokenizer:
    """Llama 2's rules: ▁ for a space, the first one dropped, unknown characters as bytes."""
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)}
    for token in ["▁", *"abcdefgh", "▁a", "▁ab", "ab", "▁▁"]:
        vocab[token] = len(vocab)
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocab,
            merges=[("▁", "a"), ("▁a", "b"), ("a", "b"), ("▁", "▁")],
            byte_fallback=True,
            unk_token=None,
        )
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return LibraryTokenizer(tokenizer)


BYTE_LEVEL = byte_level([("Ã", "©"), ("©", "Ã"), ("Ġ", "a"), ("ð", "Ł")])
SENTENCEPIECE = sentencepiece()


def deltas(tokenizer: ByteTokenizer, ids: Sequence[int], prompt: Sequence[int] = ()) -> list[str]:
    detokenizer = IncrementalDetokenizer(tokenizer, prompt)
    return [*(detokenizer.add(one) for one in ids), detokenizer.flush()]


@given(ANY_TEXT)
def test_bytes_as_tokens(text: str) -> None:
    assert "".join(deltas(ByteTokenizer(), list(text.encode()))) == text


@given(st.text("\N{REPLACEMENT CHARACTER}é😀a", max_size=60))
def test_replacement_characters_that_are_meant(text: str) -> None:
    assert "".join(deltas(ByteTokenizer(), list(text.encode()))) == text


@given(st.lists(st.integers(0, 259), max_size=80))
def test_broken_bytes_and_special_tokens(ids: list[int]) -> None:
    tokenizer = ByteTokenizer()
    assert "".join(deltas(tokenizer, ids)) == tokenizer.decode(ids, skip_special_tokens=True)


@given(st.lists(st.integers(0, 259), max_size=80))
def test_broken_byte_level_tokens(ids: list[int]) -> None:
    whole = BYTE_LEVEL.decode(ids, skip_special_tokens=True)
    assert "".join(deltas(BYTE_LEVEL, ids)) == whole


@given(st.text("abc é▁😀", max_size=40))
def test_sentencepiece(text: str) -> None:
    ids = SENTENCEPIECE._tokenizer.encode("▁" + text.replace(" ", "▁")).ids
    assert "".join(deltas(SENTENCEPIECE, ids)) == SENTENCEPIECE.decode(ids, True)


@given(st.text("ab é", min_size=1, max_size=20), st.text("ab é", max_size=20))
def test_a_prompt_keeps_the_space_behind_it(prompt: str, text: str) -> None:
    """Joined with the prompt's text, the deltas are the whole decoded."""
    encode = SENTENCEPIECE._tokenizer.encode
    before = encode("▁" + prompt.replace(" ", "▁")).ids
    after = encode(text.replace(" ", "▁")).ids
    joined = SENTENCEPIECE.decode(before, True) + "".join(deltas(SENTENCEPIECE, after, before))
    assert joined == SENTENCEPIECE.decode([*before, *after], True)


def test_the_space_rule_would_be_missed_without_the_prompt() -> None:
    encode = SENTENCEPIECE._tokenizer.encode
    prompt, after = encode("▁a").ids, encode("▁ab").ids
    assert "".join(deltas(SENTENCEPIECE, after)) == "ab"
    assert "".join(deltas(SENTENCEPIECE, after, prompt)) == " ab"


def test_nothing_incomplete_is_shown() -> None:
    assert deltas(ByteTokenizer(), list("aé😀".encode())) == ["a", "", "é", "", "", "", "😀", ""]


def test_broken_text_is_not_held_back_for_ever() -> None:
    shown = deltas(ByteTokenizer(), [0xFF] * 200)
    assert max(len(one) for one in shown) <= 16
    assert len("".join(shown[:100])) > 80


def test_a_token_costs_the_same_at_the_end_of_a_long_text() -> None:
    """Counted, not timed: the tokens that are decoded in all."""
    num_decoded = 0

    class Counting(ByteTokenizer):
        def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
            nonlocal num_decoded
            num_decoded += len(ids)
            return super().decode(ids, skip_special_tokens)

    for ids in ([97] * 2000, [0xFF] * 2000, [EOS] * 2000, list("😀".encode()) * 500):
        num_decoded = 0
        deltas(Counting(), ids)
        assert num_decoded <= 2000 * 40


def test_special_tokens_are_left_out() -> None:
    assert "".join(deltas(ByteTokenizer(), [BOS, 97, EOS, 98])) == "ab"


def test_labels_tell_parts_of_characters_apart() -> None:
    assert token_label(ByteTokenizer(), 97) == "a"
    assert token_label(ByteTokenizer(), 0xE4) == "bytes:\\xe4"


def cut_at_first_stop(text: str, stops: Sequence[str]) -> str:
    """The slow definition: the stop that is complete first, the longest of those."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))]
    return text


@settings(max_examples=300)
@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=9), max_size=3))
def test_stop_strings_in_single_characters(text: str, stops: list[str]) -> None:
    """Two letters, so that a stop string often begins again within itself."""
    checker, shown = StopChecker(stops), ""
    for char in text:
        result = checker.add(char)
        shown += result.text
        if result.stop is not None:
            break
    else:
        shown += checker.flush()
    assert shown == cut_at_first_stop(text, stops)


@pytest.mark.parametrize(
    ("text", "stop", "shown"), [("aaab", "aab", "a"), ("ababac", "abac", "ab"), ("aab", "b", "aa")]
)
def test_a_stop_string_that_begins_within_a_failed_one(text: str, stop: str, shown: str) -> None:
    assert StopChecker([stop]).add(text).text == shown


@given(
    st.text("ab\n", max_size=30),
    st.lists(st.text("ab\n", min_size=1, max_size=5), max_size=4),
    st.data(),
)
def test_stop_strings_in_any_split(text: str, stops: list[str], data: st.DataObject) -> None:
    checker, shown, rest = StopChecker(stops), "", text
    is_stopped = False
    while rest and not is_stopped:
        size = data.draw(st.integers(1, len(rest)))
        result = checker.add(rest[:size])
        rest, shown, is_stopped = rest[size:], shown + result.text, result.stop is not None
        assert cut_at_first_stop(text, stops).startswith(shown), "text behind a stop was shown"
    if not is_stopped:
        shown += checker.flush()
    assert shown == cut_at_first_stop(text, stops)


def test_only_what_may_become_a_stop_is_held_back() -> None:
    checker = StopChecker(["###"])
    assert checker.add("ab#").text == "ab"
    assert checker.add("c").text == "#c"
    assert checker.add("##").text == ""
    assert checker.flush() == "##"


@pytest.mark.parametrize("stops", [[], [""]])
def test_no_stop_strings(stops: list[str]) -> None:
    checker = StopChecker(stops)
    assert checker.add("anything").text == "anything"
    assert checker.flush() == ""
