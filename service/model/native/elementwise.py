"""The native form of what a model computes between its products.

`elementwise.h` has the arithmetic, `elementwise_twin.py` the twins. Calls are short, so what they
cost in Python counts: at one row all of it is less than an operation of torch's.
"""

import ctypes

import torch

from service.model.kernels import NormForm

_SUFFIXES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


class _Norm(ctypes.Structure):
    """`Norm` of elementwise.h"""

    _fields_ = (
        ("weight", ctypes.c_void_p),
        ("size", ctypes.c_int64),
        ("eps", ctypes.c_float),
        ("rounds_first", ctypes.c_int32),
        ("adds_one", ctypes.c_int32),
        ("num_threads", ctypes.c_int32),
    )


class _Heads(ctypes.Structure):
    """`Heads` of elementwise.h"""

    _fields_ = (
        ("values", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
        ("head_stride", ctypes.c_int64),
    )


class _Rotation(ctypes.Structure):
    """`Rotation` of elementwise.h"""

    _fields_ = (
        ("query", _Heads),
        ("key", _Heads),
        ("cos", ctypes.c_void_p),
        ("sin", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("size", ctypes.c_int64),
        ("num_threads", ctypes.c_int32),
    )


class NativeNorm:
    def __init__(
        self, library: ctypes.CDLL, weight: torch.Tensor, eps: float, form: NormForm
    ) -> None:
        self._run = getattr(library, f"rms_norm_{_SUFFIXES[weight.dtype]}")
        self._run.argtypes = [*[ctypes.c_void_p] * 3, ctypes.c_int64]
        self._run.restype = None
        self._weight = weight.contiguous()
        self._dtype, self._size = weight.dtype, len(weight)
        self._norm = _Norm(
            self._weight.data_ptr(),
            self._size,
            eps,
            form.rounds_first,
            form.adds_one,
            torch.get_num_threads(),
        )
        self._address = ctypes.addressof(self._norm)

    def takes(self, x: torch.Tensor) -> bool:
        return x.dtype is self._dtype and x.shape[-1] == self._size and x.is_contiguous()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(x)
        self._run(self._address, x.data_ptr(), out.data_ptr(), x.numel() // self._size)
        return out


class NativeElementwise:
    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._library = library
        self._num_threads = torch.get_num_threads()
        self._gate = getattr(library, f"gated_{_SUFFIXES[dtype]}")
        self._gate.argtypes = [*[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 3, ctypes.c_int]
        self._gate.restype = None
        self._rotate = getattr(library, f"rotate_{_SUFFIXES[dtype]}")
        self._rotate.argtypes = [ctypes.c_void_p]
        self._rotate.restype = None
        self._rotation = _Rotation(num_threads=self._num_threads)
        self._rotation_address = ctypes.addressof(self._rotation)

    def norm(self, weight: torch.Tensor, eps: float, form: NormForm) -> NativeNorm:
        return NativeNorm(self._library, weight, eps, form)

    def takes_gate(self, gate: torch.Tensor, up: torch.Tensor) -> bool:
        """Halves of one tensor among them."""
        return (
            gate.dtype is self.dtype
            and up.dtype is self.dtype
            and gate.shape == up.shape
            and gate.stride() == up.stride()
            and gate.stride(-1) == 1
            and (gate.is_contiguous() or gate.shape[:-2].numel() == 1)
            and gate.ndim > 1
        )

    def gated(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        out = torch.empty(gate.shape, dtype=self.dtype)
        rows, size = gate.shape[:-1].numel(), gate.shape[-1]
        self._gate(
            gate.data_ptr(),
            up.data_ptr(),
            out.data_ptr(),
            rows,
            size,
            size if gate.is_contiguous() else gate.stride(-2),
            self._num_threads,
        )
        return out

    def takes_heads(
        self, query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> bool:
        """All of each head is turned."""
        batch, _, count, size = query.shape
        return (
            query.dtype is key.dtype is cos.dtype is sin.dtype is self.dtype
            and key.shape[0] == batch
            and key.shape[2] == count
            and cos.shape == sin.shape == (batch, count, size)
            and size % 2 == 0
            and _has_rows(query)
            and _has_rows(key)
            and cos.is_contiguous()
            and sin.is_contiguous()
        )

    def rotated(
        self, query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        batch, _, count, size = query.shape
        call = self._rotation
        turned = self._set(call.query, query), self._set(call.key, key)
        call.cos, call.sin = cos.data_ptr(), sin.data_ptr()
        call.rows, call.size = batch * count, size
        self._rotate(self._rotation_address)
        return turned

    def _set(self, heads: _Heads, values: torch.Tensor) -> torch.Tensor:
        """What will hold them turned, in the layout that torch would give it."""
        batch, number, count, size = values.shape
        out = torch.empty(batch, count, number, size, dtype=self.dtype)
        heads.values, heads.out = values.data_ptr(), out.data_ptr()
        _, heads.head_stride, heads.row_stride, _ = values.stride()
        heads.count = number
        return out.transpose(1, 2)


def _has_rows(heads: torch.Tensor) -> bool:
    """`[B, heads, T, dim]` with all `B * T` rows at the same distance."""
    batch, _, count, _ = heads.shape
    of_batch, _, of_row, of_number = heads.stride()
    return of_number == 1 and (batch == 1 or of_batch == count * of_row)
