"""The benchmark of `make bench-fairness` runs from end to end; no time is asserted here."""

import re
from pathlib import Path

from tests.bench.fairness import SHORT, report


def test_the_short_form_prints_both_tables(tmp_path: Path) -> None:
    text = report(SHORT, tmp_path)
    for line in ("time to first token, p99", "inter-token latency, p99", "fair"):
        assert re.search(rf"^{line} +[\d.]+ +[\d.]+", text, re.MULTILINE), text
