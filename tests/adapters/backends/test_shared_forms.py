"""`SharedForms`, whatever they lie on: taken whole or not at all, given over and over."""

from collections.abc import Callable
from pathlib import Path

import pytest

from service.adapters.backends.contents import SharedForms
from service.adapters.backends.form_files import FormFiles

A, B = f"{'a' * 64}-{'0' * 16}.terms", f"{'b' * 64}-{'0' * 16}.terms"


def folder_forms(tmp_path: Path) -> SharedForms:
    (tmp_path / "tmp").mkdir()
    return FormFiles(tmp_path / "forms", tmp_path / "tmp")


@pytest.fixture(params=[folder_forms], ids=["folder"])
def forms(request: pytest.FixtureRequest, tmp_path: Path) -> SharedForms:
    make: Callable[[Path], SharedForms] = request.param
    return make(tmp_path)


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
