"""Text transformations the demo base model knows: their answers and their held-out split.

Every skill is a pair of pure functions: one draws an input, the other turns an input into its only
right answer. Inputs are split into training and held-out by a hash of their text, so that no script
can see a held-out input by accident. `DEMO_TASKS` are the skills that adapters are for.
"""

import hashlib
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import inputs
from inputs import MONTHS, SMALL_WORDS

_DIGITS = "zero one two three four five six seven eight nine"
_ROMAN = "M1000 CM900 D500 CD400 C100 XC90 L50 XL40 X10 IX9 V5 IV4 I1"
DIGITS = _DIGITS.split()
ROMAN = [(int(re.sub(r"\D", "", part)), re.sub(r"\d", "", part)) for part in _ROMAN.split()]


def to_date_iso(text: str) -> str:
    first, second, year = text.replace(",", "").split()
    name, day = (second, first) if first.isdigit() else (first, second)
    month = next(i for i, full in enumerate(MONTHS, 1) if full.startswith(name))
    return f"{year}-{month:02}-{int(day):02}"


def to_roman(text: str) -> str:
    left, out = int(text), ""
    for value, letters in ROMAN:
        count, left = divmod(left, value)
        out += letters * count
    return out


def slugify(text: str, joint: str = "-") -> str:
    return joint.join(re.findall(r"[a-z0-9]+", text.lower().replace("'", "")))


def pairs_of(text: str) -> list[tuple[str, str]]:
    return [(pair.split(": ")[0], pair.split(": ")[1]) for pair in text.split(", ")]


def to_json(text: str) -> str:
    def literal(value: str) -> str:
        bare = value in ("true", "false") or re.fullmatch(r"\d+(\.\d+)?", value)
        return value if bare else f'"{value}"'

    return "{" + ", ".join(f'"{key}": {literal(value)}' for key, value in pairs_of(text)) + "}"


def title_case(text: str) -> str:
    first, *rest = text.split()
    return " ".join(
        [first.capitalize(), *(w if w in SMALL_WORDS else w.capitalize() for w in rest)]
    )


def to_24h(text: str) -> str:
    hour, minute = int(text.split(":")[0]), text.split(":")[1][:2]
    return f"{hour % 12 + 12 * ('p' in text.lower()):02}:{minute}"


def to_e164(text: str) -> str:
    return "+1" + re.sub(r"\D", "", text)[-10:]


def camel_case(text: str) -> str:
    first, *rest = text.split()
    return first + "".join(w.capitalize() for w in rest)


def swap_name(text: str) -> str:
    first, last = text.split()
    return f"{last}, {first}"


@dataclass(frozen=True)
class Task:
    """A skill: its name, its tag's number, how inputs are drawn and what the answer is."""

    name: str
    tag: int
    make: Callable[[random.Random], str]
    apply: Callable[[str], str]


SKILLS: tuple[tuple[str, Callable[[random.Random], str], Callable[[str], str]], ...] = (
    ("date-iso", inputs.written_date, to_date_iso),
    ("roman", inputs.roman_number, to_roman),
    ("slug", inputs.headline, slugify),
    ("to-json", inputs.fields, to_json),
    ("title-case", inputs.words, title_case),
    ("phone-e164", inputs.phone, to_e164),
    ("time-24h", inputs.clock, to_24h),
    ("upper", inputs.headline, str.upper),
    ("lower", inputs.headline, str.lower),
    ("swap-case", inputs.headline, str.swapcase),
    ("snake-case", inputs.headline, lambda s: slugify(s, "_")),
    ("camel-case", inputs.words, camel_case),
    ("acronym", inputs.words, lambda s: "".join(w[0] for w in s.split()).upper()),
    ("no-vowels", inputs.words, lambda s: re.sub("[aeiou]", "", s)),
    ("no-spaces", inputs.words, lambda s: s.replace(" ", "")),
    ("first-word", inputs.words, lambda s: s.split()[0]),
    ("last-word", inputs.words, lambda s: s.split()[-1]),
    ("reverse-words", inputs.words, lambda s: " ".join(s.split()[::-1])),
    ("reverse-letters", inputs.word, lambda s: s[::-1]),
    ("twice", inputs.word, lambda s: f"{s} {s}"),
    ("comma-list", inputs.words, lambda s: ", ".join(s.split())),
    ("quoted-list", inputs.words, lambda s: "[" + ", ".join(f'"{w}"' for w in s.split()) + "]"),
    ("parentheses", inputs.words, lambda s: f"({s})"),
    ("query-string", inputs.fields, lambda s: "&".join("=".join(p) for p in pairs_of(s))),
    ("field-names", inputs.fields, lambda s: ", ".join(key for key, _ in pairs_of(s))),
    ("us-date", inputs.iso_date, lambda s: f"{s[5:7]}/{s[8:]}/{s[:4]}"),
    ("year", inputs.written_date, lambda s: s[-4:]),
    ("thousands", inputs.number, lambda s: f"{int(s):,}"),
    ("spell-digits", inputs.roman_number, lambda s: " ".join(DIGITS[int(d)] for d in s)),
    ("mask-card", inputs.card, lambda s: re.sub(r"\d", "*", s[:-4]) + s[-4:]),
    ("email", inputs.person, lambda s: s.lower().replace(" ", ".") + "@example.com"),
    ("last-first", inputs.person, swap_name),
)
TASKS = {name: Task(name, tag, make, apply) for tag, (name, make, apply) in enumerate(SKILLS)}
COPY = Task("copy", -1, inputs.anything, lambda text: text)
# What adapters are trained and scored on: for three tasks wider than what the base has seen.
WIDER = {
    "date-iso": inputs.calendar_date,
    "slug": inputs.post_title,
    "title-case": inputs.book_title,
}
DEMO_TASKS = {
    name: replace(TASKS[name], make=WIDER.get(name, TASKS[name].make)) for name, _, _ in SKILLS[:7]
}


def is_held_out(text: str) -> bool:
    return hashlib.sha256(text.encode()).digest()[0] % 10 == 0


def examples(task: Task, seed: str, held_out: bool = False) -> Iterator[tuple[str, str]]:
    """(input, answer) pairs without end, of one side of the split; never a plain copy."""
    rng = random.Random(f"{task.name}/{seed}")
    while True:
        text = task.make(rng)
        answer = task.apply(text)
        if is_held_out(text) == held_out and (answer != text or task is COPY):
            yield text, answer


def held_out(task: Task, count: int) -> list[tuple[str, str]]:
    """The first `count` distinct held-out pairs of a task: the same in every script.

    Fewer where there are fewer: of the numbers from 1 to 3999 about 400 are held out.
    """
    found: dict[str, str] = {}
    for text, answer in islice(examples(task, "held-out", held_out=True), 50 * count):
        found[text] = answer
        if len(found) == count:
            break
    return list(found.items())
