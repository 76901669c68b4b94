"""A kernel of terms beside its twin, `operator/terms.py`."""

import torch

from service.model.kernels import KERNEL_TERMS, TermKernel
from service.operator.terms import Terms


def equals(kernel: TermKernel, device: torch.device) -> bool:
    """On sizes that no vector width divides, with terms that are absent, ranks of all sizes and
    runs of one row and of many.

    A kernel may round `x A^T` to the run dtype, as the layers of peft do, and rounds its sum. Each
    rounding moves a number by half an eps of it at most.
    """
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
        5: Terms(a=draw(150, num_in), b=draw(num_out, 150), **vectors),
    }
    runs = [(0, 0, 3), (9, 3, 4), (1, 4, 5), (3, 6, 8), (99, 8, 9), (4, 9, 24), (5, 24, 100)]
    runs += [(0, 100, 101), (9, 101, 103), (5, 103, 104)]
    table = kernel.table()
    for slot, terms in forms.items():
        table.set(slot, terms)
    x, y = draw(105, num_in), draw(105, num_out)
    twin = y.float().clone()
    products = torch.zeros_like(twin)  # of which y is the sum, without their signs
    for slot, start, stop in runs:
        if slot in forms:
            terms, rows = _widened(forms[slot]), x[start:stop].float()
            terms.add_to(twin[start:stop], rows)
            if terms.a is not None and terms.b is not None:
                products[start:stop] = (rows @ terms.a.t()).abs() @ terms.b.abs().t()
    kernel.add_to(table, kernel.runs(runs), x, y)
    # A little more, for what the first rounding adds to the second.
    half = 0.51 * torch.finfo(kernel.dtype).eps
    return bool(((y.float() - twin).abs() <= half * (twin.abs() + products) + 1e-5).all())


def _widened(terms: Terms) -> Terms:
    values = {name: getattr(terms, name) for name in KERNEL_TERMS}
    return Terms(**{name: value.float() for name, value in values.items() if value is not None})
