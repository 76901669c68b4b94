"""A kernel of terms beside its twin, `operator/terms.py`."""

import torch

from service.model.kernels import KERNEL_TERMS, TermKernel
from service.operator.terms import Terms


def equals(kernel: TermKernel, device: torch.device) -> bool:
    """On sizes that no vector width divides, with terms that are absent and runs of many rows."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, dtype: torch.dtype = kernel.dtype) -> torch.Tensor:
        return torch.rand(*shape, generator=generator).sub(0.5).to(device, dtype)

    num_in, num_out = 141, 83
    vectors = {name: draw(num_out, dtype=torch.float32) for name in ("c", "d")}
    forms = {
        0: Terms(a=draw(16, num_in), b=draw(num_out, 16)),
        9: Terms(a=draw(5, num_in), b=draw(num_out, 5), **vectors),
        3: Terms(d=vectors["d"]),
        4: Terms(a=draw(20, num_in), b=draw(num_out, 20), c=vectors["c"]),
    }
    runs = [(0, 0, 3), (9, 3, 4), (1, 4, 5), (3, 6, 8), (99, 8, 9), (4, 9, 24)]
    table = kernel.table()
    for slot, terms in forms.items():
        table.set(slot, terms)
    x, y = draw(24, num_in), draw(24, num_out)
    twin = y.float().clone()
    for slot, start, stop in runs:
        if slot in forms:
            _widened(forms[slot]).add_to(twin[start:stop], x[start:stop].float())
    kernel.add_to(table, kernel.runs(runs), x, y)
    return torch.allclose(y.float(), twin, rtol=2 * torch.finfo(kernel.dtype).eps, atol=1e-5)


def _widened(terms: Terms) -> Terms:
    values = {name: getattr(terms, name) for name in KERNEL_TERMS}
    return Terms(**{name: value.float() for name, value in values.items() if value is not None})
