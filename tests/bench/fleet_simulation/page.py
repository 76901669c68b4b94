"""Renews what is generated of docker/ROUTING.md; its words stay as they were written."""

import re
from collections.abc import Mapping
from pathlib import Path

from tests.server import ROOT

PAGE = ROOT / "docker" / "ROUTING.md"
PLOT = ROOT / "docker" / "routing.svg"
_PLACE = re.compile(r"<!-- table: (?P<name>[a-z ]+) -->\n.*?<!-- end -->", re.DOTALL)


def renew(page: Path, generated: Mapping[str, str]) -> None:
    """Every table has its place, and every place its table."""
    text = page.read_text()
    places = {match["name"] for match in _PLACE.finditer(text)}
    if places != set(generated):
        raise SystemExit(f"{page.name}: no match for {sorted(places ^ set(generated))}")
    page.write_text(_PLACE.sub(lambda match: _filled(match["name"], generated), text))


def _filled(name: str, generated: Mapping[str, str]) -> str:
    return f"<!-- table: {name} -->\n{generated[name]}\n<!-- end -->"
