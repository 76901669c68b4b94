"""What a loader thread reads for a sum, and that it leaves no file open behind."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from service.adapters.compiled import write_compiled
from service.adapters.sums import merge_parts, sum_ref
from service.core import AdapterPart, AdapterRef
from service.engine.loader import AdapterLoader
from service.errors import AdapterLoadFailed, RepertoireError
from service.model.host_adapter import HostAdapter
from tests.model.test_composition import factors, host_adapter, ref_of, terms_of


class Files:
    """An `AdapterSource` that knows what is open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.opened: list[BinaryIO] = []

    def add(self, adapter: HostAdapter) -> AdapterRef:
        with (self._folder / adapter.header.digest).open("wb") as file:
            write_compiled(file, adapter.header, [adapter.payload.numpy().tobytes()])
        return ref_of(adapter)

    def open(self, ref: AdapterRef) -> BinaryIO:
        try:
            self.opened.append((self._folder / ref.digest).open("rb"))
        except OSError as error:
            raise AdapterLoadFailed(f"{ref.label} is gone.") from error
        return self.opened[-1]


def accept(adapter: HostAdapter) -> None:
    """As the pool of a base that every adapter fits."""


def load(
    source: Files, *parts: AdapterPart, check: Callable[[HostAdapter], None] = accept
) -> HostAdapter | RepertoireError:
    loader, ended = AdapterLoader(source, check, pin_memory=False), threading.Event()
    results: list[HostAdapter | RepertoireError] = []

    def done(digest: str, result: HostAdapter | RepertoireError, seconds: float) -> None:
        results.append(result)
        ended.set()

    loader.start(sum_ref(merge_parts(parts)), done)
    assert ended.wait(30)
    loader.close()
    assert all(file.closed for file in source.opened)
    return results[0]


def test_a_sum_is_read_from_its_parts(tmp_path: Path) -> None:
    source, one, two = Files(tmp_path), factors(3, 1), factors(2, 2)
    x = source.add(host_adapter("x", {"q": one}))
    y = source.add(host_adapter("y", {"q": two}))
    result = load(source, AdapterPart(y, -1.0), AdapterPart(x, 1.0))
    assert isinstance(result, HostAdapter)
    assert torch.equal(terms_of(result)["q"]["b"], torch.cat([one["b"], -two["b"]], dim=1))
    assert len(source.opened) == 2


@pytest.mark.parametrize("missing", ["x", "y"])
def test_a_part_that_cannot_be_read_fails_the_sum(tmp_path: Path, missing: str) -> None:
    source = Files(tmp_path)
    refs = [source.add(host_adapter(name, {"q": factors(1, 1)})) for name in ("x", "y")]
    (tmp_path / missing).unlink()
    result = load(source, *(AdapterPart(ref, 0.5) for ref in refs))
    assert isinstance(result, AdapterLoadFailed)
    assert f"{missing}@1" in str(result)


def test_a_part_of_another_size_than_was_recorded_fails_the_sum(tmp_path: Path) -> None:
    source = Files(tmp_path)
    x = source.add(host_adapter("x", {"q": factors(1, 1)}))
    y = source.add(host_adapter("y", {"q": factors(1, 1)}))
    source.add(host_adapter("y", {"q": factors(2, 1), "v": factors(3, 1)}))
    result = load(source, AdapterPart(x, 0.5), AdapterPart(y, 0.5))
    assert isinstance(result, AdapterLoadFailed)


def test_what_cannot_be_placed_fails_on_the_loader_s_thread(tmp_path: Path) -> None:
    source, checked = Files(tmp_path), []

    def refuse(adapter: HostAdapter) -> None:
        checked.append(threading.current_thread().name)
        raise AdapterLoadFailed("It was compiled for another base.")

    x = source.add(host_adapter("x", {"q": factors(2, 0)}))
    result = load(source, AdapterPart(x, 1.0), check=refuse)
    assert isinstance(result, AdapterLoadFailed)
    assert checked[0].startswith("adapter-loader")
    assert all(file.closed for file in source.opened)


def test_its_threads_leave_the_processors_to_the_steps(tmp_path: Path) -> None:
    source, found = Files(tmp_path), []
    ref = source.add(host_adapter("x", {"q": factors(1, 1)}))

    def check(adapter: HostAdapter) -> None:
        found.append(torch.get_num_threads())

    assert isinstance(load(source, AdapterPart(ref, 1.0), check=check), HostAdapter)
    assert found == [1]
