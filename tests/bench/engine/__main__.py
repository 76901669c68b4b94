"""`make bench`: the engine against its limits, through the real server; or a part of it.

Prints every figure as it is measured, and writes the JSON of this class of machines, the page and
the plot of all classes.
"""

import argparse
import gc
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from types import ModuleType

from transformers.utils import logging

from tests.bench.engine.bars import (
    cold,
    decode,
    generate,
    gpu,
    http_cost,
    kernels,
    many,
    mixed,
    prefill,
    start,
)
from tests.bench.engine.figures import Figure
from tests.bench.engine.models import BASES
from tests.bench.engine.page import render
from tests.bench.engine.plot import draw
from tests.bench.engine.results import BarResult, Circumstances, add_result, load_results
from tests.bench.engine.setup import QUICK, Setup, Workload

BARS: dict[int, ModuleType] = {
    1: mixed,
    2: generate,
    3: decode,
    4: prefill,
    5: many,
    6: cold,
    7: http_cost,
    8: start,
    9: kernels,
    10: gpu,
}
RESULTS = Path(__file__).with_name("results")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--bars", default="", help="numbers, e.g. '1 3'; by default all")
    parser.add_argument("--bases", default=" ".join(BASES), help="by default both")
    parser.add_argument("--work", type=Path, help="folder that keeps models for the next run")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder that is written")
    parser.add_argument("--page-only", action="store_true", help="only write page and plot anew")
    parser.add_argument("--quick", action="store_true", help="tiny, only to see that it works")
    given = parser.parse_args()
    numbers = [int(one) for one in given.bars.split()] or list(BARS)
    bases = tuple(given.bases.split())
    if given.quick and given.results == RESULTS:
        parser.error("--quick measures nothing, so it needs --results elsewhere")
    if unknown := {*numbers} - {*BARS} or {*bases} - {*BASES}:
        parser.error(f"unknown: {', '.join(map(str, unknown))}")
    logging.disable_progress_bar()
    # So that servers end with who started them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    load = QUICK if given.quick else Workload()
    if given.page_only:
        write_page(given.results, load)
        return
    started = perf_counter()
    with _folder(given.work) as work:
        failed = run(Setup(work, bases, load), numbers, given.results)
    say(f"{perf_counter() - started:.0f} s; see {given.results / 'README.md'}")
    sys.exit(bool(failed))


def run(setup: Setup, numbers: list[int], results: Path) -> list[str]:
    """What has failed; a bar that does is no reason to go without the others."""
    missed, failed, here = [], [], Circumstances.here()
    for number in numbers:
        # This process is the client too: its collector would look like streams that stand still.
        gc.collect()
        gc.freeze()
        circumstances = here.before_a_bar()
        say(f"\n{number}. {title(number)}\n   {circumstances}")
        started, figures = perf_counter(), []
        try:
            for figure in BARS[number].measure(setup):
                say(line(figure))
                figures.append(figure)
        except Exception:
            traceback.print_exc()
            failed.append(f"{number}. {title(number)}")
            continue
        if not figures:
            say("   nothing to measure on this machine")
            continue
        seconds = round(perf_counter() - started, 1)
        missed += [f"{number}. {one.name}" for one in figures if one.is_met is False]
        add_result(results, BarResult(number, circumstances, seconds, tuple(figures)))
        write_page(results, setup.load)
    say("\nnot met: " + ("; ".join(missed) or "none"))
    say("failed: " + ("; ".join(failed) or "none"))
    return failed


def write_page(folder: Path, load: Workload) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    results = load_results(folder)
    titles = {number: title(number) for number in BARS}
    text = render(titles, results, num_prompt=load.num_prompt, num_output=load.num_output)
    (folder / "README.md").write_text(text)
    draw(results, folder / "bars.svg")


def title(number: int) -> str:
    return (BARS[number].__doc__ or "").splitlines()[0].rstrip(".")


def line(figure: Figure) -> str:
    met = {True: "met", False: "NOT MET", None: ""}[figure.is_met]
    note = f"\n     {figure.note}" if figure.note else ""
    return f"   {figure.name:<58}{figure.shown:>14}  {figure.limit:<8}{met}{note}"


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="repertoire-bench-") as folder:
        yield Path(folder)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
