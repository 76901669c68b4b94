"""What people type into the demo: seeded generators of inputs, from word lists and pure chance."""

import random
from collections.abc import Callable
from datetime import date

_WORDS = """
a about after again all an and apple as at autumn bake best better bird blue book bread bridge
build by cat city cloud coffee cold data day deep dog dream easy engine every fast field fire
first fish flower for forest free friend from garden ghost gift glass go gold good great green
guide hand happy hello high home hope horse house how ice in ink island join jump just key king
kitchen lake last learn letter life light little long lord love machine make map market model
moon morning music my new night no north ocean of old on one open or orange paper park past
people piano place quick quiet rain red ring river road rock rose salt sea secret sleep small
snow song south star stone story street summer sun table tea ten that the things time tips to top
town train tree turn under use valley walk war water way weather what when white why wild wind
window winter with word work world write year yellow you your zebra zero zone
"""
_NAMES = """
Ada Alan Amir Ann Anna Ben Boris Carla Chen Clara Dana David Dora Elena Emma Erik Eva Felix Finn
Grace Hana Hugo Ida Igor Jack James Jane Kim Kofi Lara Leo Lily Linus Lucy Maria Mark Maya Mia
Nina Noah Nora Omar Oscar Otto Paul Pia Priya Quinn Rita Rosa Sam Sara Sofia Tara Theo Tom Uma
Vera Victor Walt Wen Xena Yara Yuki Zoe
"""
_KEYS = "name age city id email price color country year team size active title code job pet"
_SMALL_WORDS = "a an and as at by for from in of on or the to with"
_MONTHS = "January February March April May June July August September October November December"
WORDS, NAMES, KEYS, MONTHS = _WORDS.split(), _NAMES.split(), _KEYS.split(), _MONTHS.split()
SMALL_WORDS = _SMALL_WORDS.split()


def word(rng: random.Random) -> str:
    """A known word or letters at random: the model must copy spelling, not remember words."""
    if rng.random() < 0.5:
        return rng.choice(WORDS)
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9)))


def words(rng: random.Random, low: int = 2, high: int = 5) -> str:
    return " ".join(word(rng) for _ in range(rng.randint(low, high)))


def person(rng: random.Random) -> str:
    last = rng.choice(NAMES) if rng.random() < 0.3 else word(rng).capitalize()
    return f"{rng.choice(NAMES) if rng.random() < 0.6 else word(rng).capitalize()} {last}"


def headline(rng: random.Random) -> str:
    """Words in mixed case with the odd number and punctuation mark."""
    styles: tuple[Callable[[str], str], ...] = (str.capitalize, str.lower, str.upper)
    style = rng.choices(styles, (7, 2, 1))[0]
    parts = [style(word(rng)) for _ in range(rng.randint(2, 5))]
    if rng.random() < 0.25:
        parts.insert(rng.randrange(len(parts)), str(rng.randint(1, 2030)))
    if rng.random() < 0.4:
        parts[rng.randrange(len(parts) - 1)] += rng.choice((",", ":", " &", " -", "'s"))
    return " ".join(parts) + rng.choice(("", "", "", "!", "?", "..."))


def post_title(rng: random.Random) -> str:
    """A headline that may have an apostrophe inside a word."""
    text = headline(rng)
    inside = [i for i in range(1, len(text)) if text[i - 1 : i + 1].isalpha()]
    if inside and rng.random() < 0.25:
        cut = rng.choice(inside)
        text = f"{text[:cut]}'{text[cut:]}"
    return text


def book_title(rng: random.Random) -> str:
    """Words in lower case, small ones as often as in real titles."""
    count = rng.randint(2, 6)
    return " ".join(
        rng.choice(SMALL_WORDS) if rng.random() < 0.35 else word(rng) for _ in range(count)
    )


def number(rng: random.Random) -> str:
    return str(rng.randrange(10 ** rng.randint(4, 9)))


def roman_number(rng: random.Random) -> str:
    return str(rng.randint(1, 3999))


def iso_date(rng: random.Random) -> str:
    return f"{rng.randint(1900, 2099)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def written_date(rng: random.Random) -> str:
    month, day, year = rng.choice(MONTHS), rng.randint(1, 28), rng.randint(1900, 2099)
    return spelled_date(rng, month, day, year)


def spelled_date(rng: random.Random, month: str, day: int, year: int) -> str:
    month = month[:3] if rng.random() < 0.3 else month
    return rng.choice((f"{month} {day}, {year}", f"{month} {day}, {year}", f"{day} {month} {year}"))


def calendar_date(rng: random.Random) -> str:
    """Any day of two centuries, the ends of the months included."""
    first, last = date(1900, 1, 1).toordinal(), date(2099, 12, 31).toordinal()
    day = date.fromordinal(rng.randint(first, last))
    return spelled_date(rng, MONTHS[day.month - 1], day.day, day.year)


def clock(rng: random.Random) -> str:
    hour, minute, half = rng.randint(1, 12), rng.randint(0, 59), rng.choice(("am", "pm"))
    half = rng.choice(("", " ")) + rng.choice((half, half.upper()))
    return f"{hour:{rng.choice(('', '02'))}}:{minute:02}{half}"


def phone(rng: random.Random) -> str:
    a, b, c = rng.randint(200, 989), rng.randint(200, 989), rng.randint(0, 9999)
    style = rng.choice(("({}) {}-{:04}", "{}-{}-{:04}", "{}.{}.{:04}", "{} {} {:04}", "{}{}{:04}"))
    return rng.choice(("", "", "", "+1 ", "1-")) + style.format(a, b, c)


def card(rng: random.Random) -> str:
    return rng.choice((" ", "-")).join(f"{rng.randrange(10000):04}" for _ in range(4))


def fields(rng: random.Random) -> str:
    """`key: value` pairs; the values are words, names, numbers or truth values."""
    pairs = {}
    for _ in range(rng.randint(1, 3)):
        key = rng.choice(KEYS) if rng.random() < 0.7 else word(rng)
        value = rng.choices(
            (
                word(rng),
                rng.choice(NAMES),
                str(rng.randrange(10 ** rng.randint(1, 4))),
                f"{rng.randrange(100)}.{rng.randrange(100):02}",
                rng.choice(("true", "false")),
                words(rng, 2, 2),
            ),
            (4, 4, 5, 1, 1, 1),
        )[0]
        pairs[key] = value
    return ", ".join(f"{key}: {value}" for key, value in pairs.items())


def anything(rng: random.Random) -> str:
    """Text at random, some of it outside ASCII, to make copying general."""
    letters = "abcdefghijklmnopqrstuvwxyz     ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    extra = ".,;:!?'\"()[]{}<>-_=+*/\\|@#$%^&~`\nàéèüößñçøåžŁπΩжДя中文字日本語😀€—…"
    chars = rng.choices(letters, k=rng.randint(1, 28))
    for _ in range(rng.randint(0, 4)):
        chars[rng.randrange(len(chars))] = rng.choice(extra)
    return "".join(chars).strip() or "x"
