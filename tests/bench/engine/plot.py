"""How far each figure is from its limit, as one picture that is the same for the same figures."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Picture

from tests.bench.engine.results import Results
from tests.bench.machine_class import CLASSES

_MOST = 3.0
"""Longer bars are cut there."""


def draw(results: Results, path: Path) -> None:
    rows: dict[str, dict[str, float]] = {}
    for name, bars in results.items():
        for number, bar in sorted(bars.items()):
            for figure in bar.figures:
                if (margin := figure.margin) is not None:
                    rows.setdefault(f"{number}. {figure.name}", {})[name] = min(margin, _MOST)
    labels = sorted(rows, key=lambda label: int(label.split(".")[0]))[::-1]
    thickness = 0.8 / max(len(results), 1)
    style: Any = {"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 8}
    with mpl.rc_context(style):
        picture = Picture(figsize=(8, 1 + 0.25 * len(labels)), layout="constrained")
        axes = picture.subplots()
        for shift, name in enumerate(results):
            places = [
                (at, rows[label][name]) for at, label in enumerate(labels) if name in rows[label]
            ]
            axes.barh(
                [at + (shift - (len(results) - 1) / 2) * thickness for at, _ in places],
                [margin for _, margin in places],
                thickness,
                label=CLASSES[name],
            )
        axes.axvline(1, color="black", linewidth=1)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_xlim(0, _MOST)
        axes.set_xlabel("1 = the limit; to the right of it, it is met")
        if results:
            axes.legend(loc="lower right")
        picture.savefig(path, metadata={"Date": None})
