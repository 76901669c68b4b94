"""Reads compiled adapters into host memory on threads of its own, so that no step ever waits."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from time import perf_counter
from typing import BinaryIO, Literal, Protocol

from service.adapters.compiled import read_header
from service.core import AdapterRef
from service.errors import AdapterLoadFailed, RepertoireError
from service.model.composition import SumBuilder
from service.model.host_adapter import HostAdapter, read_host_adapter
from service.model.openmp import compute_alone

LoadCallback = Callable[[str, HostAdapter | RepertoireError, float], None]
"""digest, adapter or the reason why not, seconds. Called on a loader thread."""

LoadObserver = Callable[[Literal["load", "activate"], float], object]
"""Told in seconds what brought an adapter into host memory, and from there to the device."""


def ignore(transition: str, seconds: float) -> None:
    """A `LoadObserver`."""


class AdapterSource(Protocol):
    def open(self, ref: AdapterRef) -> BinaryIO:
        """The compiled form, positioned at its start. Blocking. Raises `AdapterLoadFailed`."""


class AdapterLoader:
    def __init__(
        self,
        source: AdapterSource,
        check: Callable[[HostAdapter], None],
        pin_memory: bool,
        num_threads: int = 3,
    ) -> None:
        """`check` raises `AdapterLoadFailed` for what cannot be placed on the device."""
        self.num_threads = num_threads
        self._source = source
        self._check = check
        self._pin_memory = pin_memory
        self._threads = ThreadPoolExecutor(
            num_threads, thread_name_prefix="adapter-loader", initializer=compute_alone
        )

    def start(self, ref: AdapterRef, done: LoadCallback) -> None:
        self._threads.submit(self._load, ref, done)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _load(self, ref: AdapterRef, done: LoadCallback) -> None:
        started = perf_counter()
        result: HostAdapter | RepertoireError
        try:
            result = self._read(ref)
            self._check(result)
        except RepertoireError as error:
            result = error
        except Exception:
            # No name: others may wait for the same content under their own.
            result = AdapterLoadFailed("The adapter cannot be loaded.")
        done(ref.digest, result, perf_counter() - started)

    def _read(self, ref: AdapterRef) -> HostAdapter:
        if ref.parts:
            return self._read_sum(ref)
        with self._source.open(ref) as file:
            return _read_checked(ref, file, self._pin_memory)

    def _read_sum(self, ref: AdapterRef) -> HostAdapter:
        """Every part is opened first: the place of each depends on the ranks of all."""
        with ExitStack() as stack:
            files = [stack.enter_context(self._source.open(part.ref)) for part in ref.parts]
            builder = SumBuilder(ref, [read_header(file) for file in files], self._pin_memory)
            for part, file in zip(ref.parts, files, strict=True):
                file.seek(0)
                builder.add(_read_checked(part.ref, file), part.weight)
        return builder.adapter


def _read_checked(ref: AdapterRef, file: BinaryIO, pin_memory: bool = False) -> HostAdapter:
    adapter = read_host_adapter(file, pin_memory)
    if adapter.header.payload_bytes != ref.compiled_bytes:
        raise AdapterLoadFailed("The compiled form has another size than was recorded.")
    return adapter
