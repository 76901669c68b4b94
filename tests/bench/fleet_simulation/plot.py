"""The plot of docker/ROUTING.md: figures over the number of replicas, a column for each law of
popularity."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.bench.fleet_simulation.outcome import Outcome
from tests.bench.fleet_simulation.plan import EXPONENTS, REPLICAS
from tests.bench.fleet_simulation.results import Result
from tests.bench.fleet_simulation.routers import ROUTERS

_ROWS: tuple[tuple[str, Callable[[Outcome], float], str], ...] = (
    ("found in memory, %", lambda one: 100 * one.in_memory, "linear"),
    ("time to first token, p99, ms", lambda one: one.first_token_p99_ms, "log"),
    ("busiest replica / mean", lambda one: one.balance, "linear"),
)
_STYLES = ("o-", "s--", "^-", "D-", "v-", "P--")


def draw(results: Sequence[Result], path: Path) -> None:
    # The same file for the same figures, and text that stays text.
    matplotlib.rcParams.update({"svg.hashsalt": "routing", "svg.fonttype": "none"})
    figure = Figure(figsize=(11, 9), layout="constrained")
    grid = figure.subplots(len(_ROWS), len(EXPONENTS), sharex=True, sharey="row")
    for row, (label, read, scale) in enumerate(_ROWS):
        for column, exponent in enumerate(EXPONENTS):
            axes = grid[row][column]
            axes.set_yscale(scale)
            _lines(axes, [one for one in results if one.scenario.exponent == exponent], read)
            if row == 0:
                axes.set_title(f"Zipf {exponent}")
            if column == 0:
                axes.set_ylabel(label)
            if row == len(_ROWS) - 1:
                axes.set_xlabel("replicas")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.savefig(path, metadata={"Date": None})


def _lines(axes: Axes, results: Sequence[Result], read: Callable[[Outcome], float]) -> None:
    found = {(r.scenario.routing, r.scenario.num_replicas): read(r.whole) for r in results}
    alone = found[next(iter(ROUTERS)), 1]
    for routing, style in zip(ROUTERS, _STYLES, strict=True):
        values = [found.get((routing, count), alone) for count in REPLICAS]
        axes.plot(REPLICAS, values, style, label=routing, markersize=4, linewidth=1.2)
    axes.set_xscale("log", base=2)
    axes.set_xticks(REPLICAS, [str(count) for count in REPLICAS])
    axes.grid(alpha=0.3)
