"""The demo's answers, its held-out split and its prompt format."""

from itertools import islice

import pytest
from corpus import Encoder
from tasks import COPY, DEMO_TASKS, examples, held_out, is_held_out
from tokenizer import build_tokenizer


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [
        ("date-iso", "March 5, 2024", "2024-03-05"),
        ("date-iso", "21 Jun 1999", "1999-06-21"),
        ("roman", "1994", "MCMXCIV"),
        ("slug", "Don't Panic: 42 Tips!", "dont-panic-42-tips"),
        ("to-json", "name: Ann, age: 31", '{"name": "Ann", "age": 31}'),
        ("to-json", "active: true, price: 9.50", '{"active": true, "price": 9.50}'),
        ("title-case", "the lord of the ring", "The Lord of the Ring"),
        ("phone-e164", "(415) 555-0132", "+14155550132"),
        ("time-24h", "12:05 am", "00:05"),
        ("time-24h", "3:45PM", "15:45"),
    ],
)
def test_answers(name: str, text: str, answer: str) -> None:
    assert DEMO_TASKS[name].apply(text) == answer


@pytest.mark.parametrize("name", DEMO_TASKS)
def test_training_never_draws_a_held_out_input(name: str) -> None:
    unseen = {text for text, _ in held_out(DEMO_TASKS[name], 200)}
    assert len(unseen) == 200
    seen = {text for text, _ in islice(examples(DEMO_TASKS[name], "base-0"), 5000)}
    assert not unseen & seen
    assert all(is_held_out(text) for text in unseen)


@pytest.mark.parametrize("name", DEMO_TASKS)
def test_copying_is_never_the_answer(name: str) -> None:
    assert all(text != answer for text, answer in held_out(DEMO_TASKS[name], 200))


def test_tokenizer_keeps_every_text() -> None:
    tokenizer = build_tokenizer(tags=4)
    texts = ["", "  a\n\tb ", "naïve 日本 😀", *(text for text, _ in held_out(COPY, 50))]
    for text in texts:
        ids = tokenizer.encode(text)
        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(ids[1:]) == text


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "3:45 pm"}],
        [{"role": "user", "content": " 3:45 pm =>"}],
        [{"role": "user", "content": [{"type": "text", "text": "3:45 pm"}]}],
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "1994"},
            {"role": "assistant", "content": "MCMXCIV"},
            {"role": "user", "content": "3:45 pm"},
        ],
    ],
)
def test_chat_renders_the_completion_prompt(messages: list[dict[str, object]]) -> None:
    tokenizer = build_tokenizer(tags=4)
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    chat = tokenizer.encode(text, add_special_tokens=False)
    row = Encoder(tokenizer).row("3:45 pm", "15:45")
    assert chat == tokenizer.encode("3:45 pm =>") == row.ids[: row.prompt]
