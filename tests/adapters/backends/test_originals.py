"""`Originals`, whatever they lie on: whole or not there, and of all who decide on one, one wins."""

from pathlib import Path

import pytest

from service.adapters.backends.contents import Originals
from service.adapters.backends.store_backends import StoreBackends
from service.adapters.compiling import CompileOutcome
from service.adapters.files import CHAT_TEMPLATE, VERSION_FILES
from service.adapters.manifest import Manifest
from service.errors import AdapterLoadFailed

A, B = "a" * 64, "b" * 64


@pytest.fixture
def originals(pair: tuple[StoreBackends, StoreBackends]) -> Originals:
    return pair[0].originals


@pytest.fixture
def others(pair: tuple[StoreBackends, StoreBackends]) -> Originals:
    return pair[1].originals


def outcome(folder: Path, digest: str, data: str = "data") -> CompileOutcome:
    folder /= f"upload-{digest[0]}"
    folder.mkdir(exist_ok=True)
    for name in (*VERSION_FILES, CHAT_TEMPLATE):
        (folder / name).write_text(f"{name} {data}")
    manifest = Manifest(digest, "lora", 1, ("q",), 10, (), ())
    text = (folder / CHAT_TEMPLATE,)
    return CompileOutcome(manifest, folder, VERSION_FILES, folder / "none", (), (), text)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"record.json"}


def test_what_one_adds_all_have(originals: Originals, others: Originals, tmp_path: Path) -> None:
    made = outcome(tmp_path, A)
    assert not others.has(A)
    assert others.manifest(A) is None
    for _ in range(2):
        originals.add(made)
    assert others.has(A)
    assert others.manifest(A) == made.manifest
    folder = others.folder(A)
    assert names(folder) == {*VERSION_FILES, CHAT_TEMPLATE}
    for name in names(folder):
        assert (folder / name).read_text() == f"{name} data"
        assert (made.folder / name).exists(), "the upload is left as it is"
    text = others.text_folder(A) / CHAT_TEMPLATE
    assert text.read_text() == f"{CHAT_TEMPLATE} data"
    (digest,) = others.listing()
    size = sum((folder / name).stat().st_size for name in names(folder))
    assert (digest, others.listing()[A].num_bytes) == (A, size)
    assert not others.has(B)


def test_what_is_not_there_cannot_be_loaded(originals: Originals) -> None:
    for look in (originals.folder, originals.text_folder):
        with pytest.raises(AdapterLoadFailed):
            look(A)


def test_what_is_removed_is_gone_for_all_and_can_be_put_back(
    originals: Originals, others: Originals, tmp_path: Path
) -> None:
    originals.add(outcome(tmp_path, A))
    removed = originals.remove(A)
    assert not others.has(A)
    assert others.manifest(A) is None
    assert others.listing() == {}
    assert [one.digest for one in others.removed()] == [A]
    assert others.removed()[0].removed_at == pytest.approx(removed.removed_at)
    removed.put_back()
    assert others.has(A)
    assert others.removed() == []
    assert names(others.folder(A)) == {*VERSION_FILES, CHAT_TEMPLATE}


def test_what_is_forgotten_is_gone_and_may_come_again(
    originals: Originals, others: Originals, tmp_path: Path
) -> None:
    for _ in range(2):
        originals.add(outcome(tmp_path, A))
        originals.remove(A).forget()
        assert not others.has(A)
        assert (others.removed(), others.listing()) == ([], {})


@pytest.mark.parametrize("is_put_back", [True, False])
def test_the_first_decision_counts(
    originals: Originals, others: Originals, tmp_path: Path, is_put_back: bool
) -> None:
    originals.add(outcome(tmp_path, A))
    mine = originals.remove(A)
    (left,) = others.removed()
    if is_put_back:
        mine.put_back()
        left.forget()
    else:
        left.forget()
        mine.put_back()
    assert others.has(A) == is_put_back
    assert others.removed() == []


def test_who_removes_what_another_removes_decides_nothing(
    originals: Originals, others: Originals, tmp_path: Path
) -> None:
    originals.add(outcome(tmp_path, A))
    winner, loser = originals.remove(A), others.remove(A)
    winner.put_back()
    loser.forget()
    assert others.has(A)
    others.remove(B).forget()


def test_what_was_removed_and_is_added_again_stays(
    originals: Originals, others: Originals, tmp_path: Path
) -> None:
    originals.add(outcome(tmp_path, A))
    removed = originals.remove(A)
    others.add(outcome(tmp_path, A))
    removed.forget()
    assert others.has(A)
    assert names(others.folder(A)) == {*VERSION_FILES, CHAT_TEMPLATE}
    assert (others.removed(), len(others.listing())) == ([], 1)


def test_who_needs_what_is_removed_puts_it_back(
    originals: Originals, others: Originals, tmp_path: Path
) -> None:
    originals.add(outcome(tmp_path, A))
    originals.remove(A)
    assert names(others.folder(A)) == {*VERSION_FILES, CHAT_TEMPLATE}
    assert originals.has(A)
