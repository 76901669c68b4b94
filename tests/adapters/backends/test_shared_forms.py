"""`SharedForms`, whatever they lie on: taken whole or not at all, given over and over."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.adapters.backends.contents import SharedForms
from tests.adapters.places import Place

A, B = f"{'a' * 64}-{'0' * 16}.terms", f"{'b' * 64}-{'0' * 16}.terms"


@pytest.fixture
def forms(place: Place) -> Iterator[SharedForms]:
    backends = place.backends("x")
    backends.hold.open(is_tidied=True)
    assert backends.forms is not None
    yield backends.forms
    backends.hold.close()


def put(forms: SharedForms, name: str, data: bytes, tmp_path: Path) -> None:
    compiled = tmp_path / "compiled"
    compiled.write_bytes(data)
    forms.put(name, compiled)
    assert compiled.read_bytes() == data


def test_what_is_put_is_fetched_by_others(forms: SharedForms, tmp_path: Path) -> None:
    target = tmp_path / "target"
    assert not forms.fetch(A, target)
    assert forms.listing() == {}
    put(forms, A, b"one", tmp_path)
    put(forms, B, bytes(1 << 20), tmp_path)
    assert forms.fetch(A, target)
    assert target.read_bytes() == b"one"
    sizes = {name: one.num_bytes for name, one in forms.listing().items()}
    assert sizes == {A: 3, B: 1 << 20}


def test_the_last_one_that_is_put_counts(forms: SharedForms, tmp_path: Path) -> None:
    for data in (b"damaged", b"whole"):
        put(forms, A, data, tmp_path)
    assert forms.fetch(A, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"whole"


def test_what_is_dropped_is_gone_and_may_be_dropped_again(
    forms: SharedForms, tmp_path: Path
) -> None:
    put(forms, A, b"one", tmp_path)
    for _ in range(2):
        forms.drop(A)
        assert not forms.fetch(A, tmp_path / "target")
    assert forms.listing() == {}
