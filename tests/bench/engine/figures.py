"""What a bar yields: numbers, some of which have a limit to meet."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A ratio unless it has a unit. At most one of the limits is set."""

    name: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        """None without a limit. A value that is no number meets none."""
        if self.at_least is not None:
            return self.value >= self.at_least
        if self.at_most is not None:
            return self.value <= self.at_most
        return None

    @property
    def margin(self) -> float | None:
        """1 on the limit, more where it is met."""
        if self.at_least is not None:
            return self.value / self.at_least
        if self.at_most is not None:
            return self.at_most / self.value if self.value else float("inf")
        return None

    @property
    def limit(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return "" if self.at_most is None else f"≤ {self.at_most:g}"

    @property
    def shown(self) -> str:
        digits = 0 if abs(self.value) >= 1000 else 1 if abs(self.value) >= 20 else 2
        return f"{self.value:,.{digits}f} {self.unit}".rstrip()
