"""Command line → settings → services → server."""

import os
import sys
from collections.abc import Sequence

import structlog

from service.api.server import run_server
from service.app import create_app
from service.errors import ConfigurationError
from service.settings import parse_command_line, unknown_variables
from service.telemetry import configure_logging

log = structlog.get_logger(__name__)


def main(arguments: Sequence[str]) -> int:
    try:
        settings = parse_command_line(arguments)
        configure_logging(settings.log_level, settings.log_format)
        for name in unknown_variables(os.environ):
            log.warning("unknown_setting", variable=name)
        settings.api_keys()  # raises now, not after the base has been loaded
        # The model's libraries take seconds to import: not before the settings are right.
        from service.bootstrap import build_services

        services = build_services(settings)
        app = create_app(services)
    except ConfigurationError as error:
        sys.stderr.write(f"repertoire: {error}\n")
        return 2
    name = services.base.name
    return run_server(
        app, settings, services.lifecycle, lambda url: _greet(url, name, settings.has_keys)
    )


def _greet(url: str, model: str, needs_key: bool) -> None:
    key = '-H "Authorization: Bearer $API_KEY" ' if needs_key else ""
    sys.stderr.write(
        f"Serving {model} on {url}. Try:\n"
        f"  curl {url}/v1/completions {key}-H 'Content-Type: application/json' "
        f"""-d '{{"model": "{model}", "prompt": "Hello", "max_tokens": 16}}'\n"""
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
