"""How far what is served is from what peft computes, measured on the running engine."""

from dataclasses import dataclass

from service.base import Quantization

FLOAT32_TOLERANCE = 1e-4
"""Largest difference of a logit that counts as equal."""
NOISE_FACTOR = 2.0
"""In narrower dtypes a row's result depends on its batch in the base itself: so much more than what
the base alone shows on the same prompts may an adapter show."""
ROUNDED_TOLERANCE = 0.05
"""On a base in 8 bits: its modules round every input to one of 255 steps, and which way one on the
edge goes is up to the last bit of what came before. Whether that happens on a few prompts is
chance, so the base alone may not show it; one such input moved logits by up to 0.03."""


@dataclass(frozen=True, slots=True)
class Verdict:
    is_exact: bool
    max_logit_difference: float
    base_difference: float
    """The same measure for the base without an adapter."""
    tolerance: float
    dtype: str
    """The run dtype."""
    num_positions: int
    """Positions compared, each over the whole vocabulary."""
    checked_at: int
    """Unix seconds."""


def judge(
    *,
    difference: float,
    base_difference: float,
    dtype: str,
    num_positions: int,
    checked_at: int,
    quantization: Quantization = "none",
) -> Verdict:
    tolerance = NOISE_FACTOR * base_difference
    if quantization == "int8":
        tolerance = max(tolerance, ROUNDED_TOLERANCE)  # In this order NaN stays.
    elif dtype == "float32":
        tolerance = FLOAT32_TOLERANCE
    return Verdict(
        # A comparison that is false for NaN.
        is_exact=difference <= tolerance,
        max_logit_difference=difference,
        base_difference=base_difference,
        tolerance=tolerance,
        dtype=dtype,
        num_positions=num_positions,
        checked_at=checked_at,
    )
