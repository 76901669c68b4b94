"""The tables of docker/ROUTING.md, by the name that the page calls them."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from tests.bench.fleet_simulation.outcome import TIERS, Outcome
from tests.bench.fleet_simulation.plan import EXPONENTS, REPLICAS
from tests.bench.fleet_simulation.profile import ASSUMED_GPU, Profile, measured, measured_profile
from tests.bench.fleet_simulation.results import Result, Results
from tests.bench.fleet_simulation.routers import ROUTERS

Cell = Callable[[Outcome], str]


def tables(results: Results, validation: str) -> Mapping[str, str]:
    main = results["main"]
    middle = EXPONENTS[1]
    at_eight = [one for one in main if one.scenario.num_replicas == 8]
    at_middle = [one for one in main if one.scenario.exponent == middle]
    return {
        "costs": _costs(),
        "in memory": _by_replicas(at_middle, _in_memory),
        "first token": _by_replicas(at_middle, _first_token),
        "balance": _by_replicas(at_middle, lambda one: f"{one.balance:.2f}"),
        "popularity": _by_popularity(at_eight),
        "calm": _one_each(results["calm"]),
        "half disk": _one_each(results["half disk"]),
        "surge": _one_each(results["surge"]),
        "kill": _changes(results["kill"]),
        "add": _changes(results["add"]),
        "bound": _knobs(results["bound"], "percent", lambda one: one.scenario.knobs.load_bound),
        "nodes": _knobs(results["nodes"], "points", lambda one: one.scenario.knobs.nodes),
        "poll": _knobs(results["poll"], "seconds", lambda one: one.scenario.knobs.poll_s),
        "gpu": _one_each([one for one in results["gpu"] if one.scenario.tiers[2] == 1]),
        "gpu half disk": _one_each([one for one in results["gpu"] if one.scenario.tiers[2] < 1]),
        "validation": validation,
    }


def _by_replicas(results: Iterable[Result], cell: Cell) -> str:
    """Alone, a replica has one row's figures for all."""
    found = {(r.scenario.routing, r.scenario.num_replicas): cell(r.whole) for r in results}
    alone = found[next(iter(ROUTERS)), 1]
    rows = [
        [routing, *(found.get((routing, count), alone) for count in REPLICAS)]
        for routing in ROUTERS
    ]
    return _table(["replicas", *map(str, REPLICAS)], rows)


def _by_popularity(results: Iterable[Result]) -> str:
    found = {(r.scenario.routing, r.scenario.exponent): r.whole for r in results}
    rows = [
        [
            routing,
            *(_in_memory(found[routing, s]) for s in EXPONENTS),
            *(_first_token(found[routing, s]) for s in EXPONENTS),
        ]
        for routing in ROUTERS
    ]
    shares = [f"in memory, {s}" for s in EXPONENTS]
    return _table(["Zipf", *shares, *(f"first token, {s}" for s in EXPONENTS)], rows)


def _one_each(results: Iterable[Result]) -> str:
    rows = [
        [
            r.scenario.routing,
            *(_percent(r.whole.tiers[tier]) for tier in TIERS),
            _first_token(r.whole),
            f"{r.whole.balance:.2f}",
            _percent(r.whole.failed),
        ]
        for r in results
    ]
    return _table(["routing", *TIERS, "first token", "balance", "failed"], rows)


def _changes(results: Iterable[Result]) -> str:
    rows = [
        [
            r.scenario.routing,
            str(r.whole.lost),
            "-" if r.moved is None else _percent(r.moved),
            *(_in_memory(one) for one in r.windows.values()),
            _percent(r.windows["after"].tiers["store"]),
            *(_first_token(one) for one in r.windows.values()),
        ]
        for r in results
    ]
    times = ("before", "after", "at the end")
    shares = [f"in memory {when}" for when in times]
    waits = [f"first token {when}" for when in times]
    return _table(["routing", "lost", "moved", *shares, "store after", *waits], rows)


def _knobs(results: Iterable[Result], unit: str, knob: Callable[[Result], float]) -> str:
    rows = [
        [
            r.scenario.routing,
            f"{knob(r):g}",
            _in_memory(r.whole),
            _first_token(r.whole),
            f"{r.whole.balance:.2f}",
        ]
        for r in results
    ]
    return _table(["routing", unit, "in memory", "first token", "balance"], rows)


def _costs() -> str:
    profiles = [measured_profile("cpu"), measured_profile("demo"), ASSUMED_GPU]
    names = ("a step", "a decode row", "a prompt row", "an adapter in the step", "a copy to the")
    rows = [
        [name, *(_ms(_step_costs(one)[place]) for one in profiles)]
        for place, name in enumerate((*names[:4], f"{names[4]} device"))
    ]
    rows.append(["a load from the disk", *(_ms(one.load.disk) for one in profiles)])
    rows.append(["before it, the form from the store", *(_ms(one.load.store) for one in profiles)])
    text = _table(["milliseconds", "`cpu`", "`demo`", "`gpu-like`, assumed"], rows)
    errors = [measured()["profiles"][name]["largest_error_of_fit"] for name in ("cpu", "demo")]
    about = f"Measured on: {measured()['machine']}, one thread, by `{measured()['command']}`."
    first = [measured()["profiles"][name]["compile"] for name in ("cpu", "demo")]
    fit = f"No measured step is further than {_percent(max(errors))} from the fitted line."
    compiling = f"A form that nobody has compiled yet takes {_ms(min(first))} ms more, once."
    return f"{text}\n\n{about} {fit} {compiling}"


def _step_costs(profile: Profile) -> tuple[float, ...]:
    step = profile.step
    return (step.fixed, step.decode_row, step.prefill_row, step.adapter, step.copy)


def _in_memory(one: Outcome) -> str:
    return _percent(one.in_memory)


def _first_token(one: Outcome) -> str:
    return f"{one.first_token_p50_ms:.0f} / {one.first_token_p99_ms:.0f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
