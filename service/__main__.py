"""Command line → settings → services → server; or → client → a server that runs already.

Imports where they are needed: a command of operators is to start fast.
"""

import gc
import json
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from service.cli.command import Operation
from service.cli.parser import parse_command_line
from service.errors import ConfigurationError, StoreUnavailable

if TYPE_CHECKING:
    from service.command_line import (
        Arguments,
        CheckArguments,
        CollectArguments,
        RebuildArguments,
    )
    from service.settings import Settings


_SPINS = "2000"
"""About 20 µs. The compute threads' gaps are shorter. One that spins on, as OpenMP's do for
milliseconds, keeps the core from the thread that it waits for where others want the cores too:
with three busy neighbours per core a step takes fifty times as long."""


class Printable(Protocol):
    def body(self) -> dict[str, Any]:
        """As JSON."""

    def lines(self) -> Iterable[str]:
        """For people."""


def main(arguments: Sequence[str]) -> int:
    try:
        parsed = parse_command_line(arguments)
        return _operate(parsed) if isinstance(parsed, Operation) else _start(parsed)
    except (ConfigurationError, StoreUnavailable) as error:
        sys.stderr.write(f"repertoire: {error}\n")
        return 2


def _operate(operation: Operation) -> int:
    from service.cli.operate import operate

    return operate(operation)


def _start(parsed: "Arguments") -> int:
    import structlog

    from service.command_line import CheckArguments, CollectArguments, RebuildArguments
    from service.settings import Settings, unknown_variables
    from service.telemetry import configure_logging

    settings = parsed if isinstance(parsed, Settings) else parsed.settings
    configure_logging(settings.log_level, settings.log_format)
    for name in unknown_variables(os.environ):
        structlog.get_logger(__name__).warning("unknown_setting", variable=name)
    match parsed:
        case CheckArguments():
            return _check(parsed)
        case CollectArguments():
            return _collect(parsed)
        case RebuildArguments():
            return _rebuild(parsed)
    return _serve(parsed)


def _serve(settings: "Settings") -> int:
    from service.api.server import check_port_is_free, run_server
    from service.app import create_app

    # What is wrong anyway is said now, not after the base has been loaded.
    settings.api_keys()
    check_port_is_free(settings.host, settings.port)
    if settings.metrics_port is not None:
        check_port_is_free(settings.metrics_host, settings.metrics_port, "--metrics-port")
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)  # read when torch is imported
    # The model's libraries take seconds to import: not before the settings are right.
    from service.bootstrap import build_services

    services = build_services(settings)
    app = create_app(services)

    def greet(url: str) -> None:
        # What lives now, with the store, lives on: a collector that went through it would hold up
        # every stream for as long as ten steps.
        gc.collect()
        gc.freeze()
        _greet(url, settings)

    return run_server(app, settings, services.lifecycle, greet)


def _check(arguments: "CheckArguments") -> int:
    import structlog

    from service.check import check_source

    check_source(arguments.source)
    try:
        from service.bootstrap import open_checker

        with open_checker(arguments.settings) as checker:
            verdict = checker.check(arguments.source)
    except ConfigurationError:
        raise
    except Exception:
        # Python's own exit status would be 1, which says that the adapter was refused.
        structlog.get_logger(__name__).exception("check_failed")
        return 2
    _print(verdict, is_json=arguments.is_json)
    return 0 if verdict.is_accepted else 1


def _collect(arguments: "CollectArguments") -> int:
    from service.collect import collect_offline

    report = collect_offline(arguments.settings, is_dry_run=arguments.is_dry_run)
    _print(report, is_json=arguments.is_json)
    return 0


def _rebuild(arguments: "RebuildArguments") -> int:
    from service.rebuild import rebuild_mirror

    report = rebuild_mirror(arguments.settings)
    _print(report, is_json=arguments.is_json)
    return 0 if report.is_whole else 1


def _print(report: Printable, *, is_json: bool) -> None:
    text = json.dumps(report.body(), indent=2) if is_json else "\n".join(report.lines())
    sys.stdout.write(f"{text}\n")


def _greet(url: str, settings: "Settings") -> None:
    body = {
        "model": settings.example_model or settings.model_name,
        "prompt": settings.example_prompt,
        "max_tokens": 32,
        "temperature": 0,
    }
    key = '-H "Authorization: Bearer $API_KEY" ' if settings.has_keys else ""
    sys.stderr.write(
        f"\nReady: {settings.model_name} and its adapters on {url}. Try:\n\n"
        f"  curl {url}/v1/completions {key}-H 'Content-Type: application/json' "
        f"-d {shlex.quote(json.dumps(body))}\n\n"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
