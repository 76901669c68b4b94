"""The page of results: every class of machines side by side, and what was not measured on which."""

from collections.abc import Iterable, Iterator, Mapping

from tests.bench.engine.figures import Figure
from tests.bench.engine.results import BarResult, Results
from tests.bench.machine_class import CLASSES

EXPECTED = ("amx", "avx512-bf16")
"""Classes that have a column whether or not anybody has measured there."""

_HEAD = """\
# The engine, measured

Made by `make bench`, which makes its own models and adapters and asks a real server over HTTP.

Each figure is a ratio within one run unless it has a unit. ✓ and ✗ say whether its limit is met.
c answers are open at once. Prompts have {num_prompt} random tokens, afresh in every run, so that
the prefix cache finds nothing (checked); answers have {num_output}, greedy. What is compared takes
turns, and a ratio is the median over the rounds. `base-s` has 162 million parameters, `base-m` 1.1
billion, both random and in bfloat16; adapters are LoRAs on all seven linear modules unless the
table says otherwise. Servers are started on the processor with `--dtype auto`.

![How far each figure is from its limit](bars.svg)
"""


def render(titles: Mapping[int, str], results: Results, *, num_prompt: int, num_output: int) -> str:
    columns = [name for name in CLASSES if name in results or name in EXPECTED]
    lines = [_HEAD.format(num_prompt=num_prompt, num_output=num_output)]
    for number, title in titles.items():
        bars = {name: results.get(name, {}).get(number) for name in columns}
        lines += [f"## {number}. {title}", "", *_table(bars), *_notes(bars), ""]
    lines += ["## Where", "", *_where(results)]
    return "\n".join(lines) + "\n"


def _table(bars: Mapping[str, BarResult | None]) -> Iterator[str]:
    figures = {name: {one.name: one for one in _figures(bar)} for name, bar in bars.items()}
    yield f"| | {' | '.join(CLASSES[name] for name in bars)} |"
    yield "|---|" + "---:|" * len(bars)
    for label in dict.fromkeys(label for some in figures.values() for label in some):
        yield f"| {label} | {' | '.join(_cell(some.get(label)) for some in figures.values())} |"
    if not any(figures.values()):
        yield f"| | {' | '.join(_cell(None) for _ in bars)} |"


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "not measured"
    mark = {True: f" ✓ ({figure.limit})", False: f" ✗ ({figure.limit})", None: ""}
    return figure.shown + mark[figure.is_met]


def _notes(bars: Mapping[str, BarResult | None]) -> Iterator[str]:
    for name, bar in bars.items():
        notes = [f"- {one.name}: {one.note}." for one in _figures(bar) if one.note]
        if notes:
            yield from ("", f"{CLASSES[name]}:", "", *notes)


def _where(results: Results) -> Iterator[str]:
    for name, bars in results.items():
        yield f"- {CLASSES[name]}:"
        by_text: dict[str, list[int]] = {}
        for number, bar in bars.items():
            by_text.setdefault(str(bar.circumstances), []).append(number)
        for text, numbers in by_text.items():
            yield f"  - bars {', '.join(map(str, numbers))}: {text}"


def _figures(bar: BarResult | None) -> Iterable[Figure]:
    return () if bar is None else bar.figures
