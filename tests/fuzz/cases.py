"""How many cases the long form runs, and what it prints about them."""

import os
import sys
from collections import Counter
from collections.abc import Hashable

NUM_CASES = int(os.environ.get("FUZZ_CASES", "1000"))
"""Of each target, in the long form (`make test-fuzz FUZZ_CASES=…`)."""


def report(target: str, outcomes: Counter[Hashable]) -> None:
    """Seen with `-s`, which the make target gives."""
    shown = ", ".join(f"{outcome}: {count}" for outcome, count in outcomes.most_common(12))
    sys.stdout.write(f"\n{target}: {outcomes.total()} cases; {shown}\n")
