"""Room for what a kernel keeps between two of its loops, from call to call."""

import torch


class Scratch:
    def __init__(self) -> None:
        self._floats = torch.empty(0, dtype=torch.float32)

    def address(self, size: int) -> int:
        """Of as many floats. What they held before is lost when there were fewer."""
        if self._floats.numel() < size:
            self._floats = torch.empty(size, dtype=torch.float32)
        return self._floats.data_ptr()
