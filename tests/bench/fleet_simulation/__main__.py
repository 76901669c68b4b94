"""`make bench-routing`: which routing finds adapters in memory, and what it costs.

The engine's own loop, scheduler, residency and admission run in virtual time behind modelled
routers; only steps and loads are costs, which were measured (`measured.json`).
"""

import argparse
import json
import sys
from pathlib import Path
from time import process_time

from tests.bench.fleet_simulation import plan
from tests.bench.fleet_simulation.page import PAGE, PLOT, renew
from tests.bench.fleet_simulation.results import body, simulate
from tests.bench.fleet_simulation.tables import tables
from tests.bench.fleet_simulation.validation import report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="seconds, to see that it works")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write every figure here")
    parser.add_argument("--page", action="store_true", help="renew docker/ROUTING.md and its plot")
    arguments = parser.parse_args()
    chosen = plan.short if arguments.short else plan.full
    results = simulate(chosen(arguments.seed), say)
    validation = report(num_rings=1 if arguments.short else 5)
    say(f"\n{validation}")
    if arguments.json:
        arguments.json.write_text(json.dumps(body(results), indent=1, sort_keys=True) + "\n")
    if arguments.page:
        # Only here, so that all else needs no library that draws.
        from tests.bench.fleet_simulation.plot import draw

        renew(PAGE, tables(results, validation))
        draw(results["main"], PLOT)
    say(f"\n{process_time():.0f} s of one core")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
