"""bitsandbytes' linear module in 8 bits, made safe to be used more than once and row by row."""

from typing import Any

from bitsandbytes.nn import modules


class Linear8bitLt(modules.Linear8bitLt):
    """peft reads the weight for DoRA and puts it back as a parameter that has lost its scales
    (`utils/integrations.py: dequantize_module_weight`); the module's state still has them."""

    def init_8bit_state(self) -> None:
        weight: Any = self.weight
        if weight.SCB is None and self.state.SCB is not None:
            weight.SCB = self.state.SCB
        super().init_8bit_state()  # type: ignore[no-untyped-call]


def make_steady(module: Any) -> None:
    """In place, on a module of the class above's base."""
    module.__class__ = Linear8bitLt
    # Columns with an outlier in any row of a call would be left out of the rounding in all of them.
    module.state.threshold = 0.0
    module.state.use_pool = False
    if module.weight.CB is not None:
        module.init_8bit_state()
