"""How the usage that one writer has seen on a day is written down, wherever that lies."""

import json
from collections.abc import Iterator
from dataclasses import astuple
from datetime import date
from typing import Any

from service.adapters.backends.usage import Rows, Usage, UsageKey
from service.errors import ConfigurationError

MAX_ROWS = 10_000
"""Of one day and writer; what comes later is counted under its tenant alone."""


def encode_rows(rows: Rows) -> bytes:
    return json.dumps({"rows": [[*astuple(k), *astuple(u)] for k, u in rows.items()]}).encode()


def decode_rows(data: bytes, day: date) -> Rows:
    """Raises `ConfigurationError`."""
    try:
        return dict(_parse(json.loads(data)))
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(day) from error


def damaged(day: date) -> ConfigurationError:
    return ConfigurationError(f"The usage of {day} in the store is damaged.")


def _parse(document: Any) -> Iterator[tuple[UsageKey, Usage]]:
    for tenant, adapter, version, *numbers in document["rows"]:
        yield UsageKey(str(tenant), str(adapter), str(version)), Usage(*map(int, numbers))
