"""Nothing of a config is ignored: whatever field is changed, what is served follows peft, or the
upload is refused.

Each change is made twice: when peft creates the adapter, and afterwards in its file alone, with the
tensors of the default. A run samples the changes; its seed is in the test's name, and
`REPERTOIRE_FIELD_SEED` sets it. `-m slow` tries them all.
"""

import contextlib
import datetime
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from service.compiler.job import Result
from service.compiler.tuners.config import UNREAD
from service.compiler.tuners.kinds.registry import UNSERVABLE
from service.errors import AdapterRefused, Refusal
from tests.compiler.tuners.bench import TOLERANCE, Bench
from tests.compiler.tuners.field_values import BY_KIND, changes_of, fields_of
from tests.contract.kind_variants import KIND_VARIANTS, KindVariant

pytestmark = pytest.mark.filterwarnings("ignore")

SEED = int(os.environ.get("REPERTOIRE_FIELD_SEED", datetime.date.today().toordinal()))
SAMPLE = 3
"""Changes of each kind in a fast run, besides those in which tensors do not fit any more."""
VARIANTS = {one.peft_type: one for one in reversed(KIND_VARIANTS.values())} | {
    "LORA": KindVariant(
        "LORA", lambda targets: {"r": 4, "lora_alpha": 8, "target_modules": targets.linear}
    )
}
KINDS = sorted(VARIANTS.keys() - UNSERVABLE.keys())
STRANGE: tuple[Any, ...] = (
    -1, 0, 1000, 1.5, True, None, "x", [], {}, [None], [1, 2], ["q_proj", 3], {"a": {"b": 1}},
)  # fmt: skip
Change = tuple[str, dict[str, Any]]


def changes(kind: str) -> list[Change]:
    return [(field, change) for field in fields_of(kind) for change in changes_of(kind, field)]


def sample(kind: str) -> Iterator[Change]:
    draw = random.Random(f"{SEED} {kind}")
    yield from draw.sample(changes(kind), SAMPLE)


@pytest.fixture(scope="module")
def bench(benches: Callable[[str], Bench]) -> Bench:
    return benches("biased")


@pytest.fixture(scope="module")
def defaults(bench: Bench) -> dict[str, Path]:
    return {kind: bench.make(VARIANTS[kind]) for kind in KINDS}


def edited(bench: Bench, folder: Path, change: dict[str, Any]) -> Path:
    target = bench.new_folder() / "edited"
    shutil.copytree(folder, target)
    config = json.loads((folder / "adapter_config.json").read_text())
    (target / "adapter_config.json").write_text(json.dumps({**config, **change}))
    return target


def assert_followed_or_refused(bench: Bench, folder: Path, field: str) -> None:
    compiled = compiled_or_refused(bench, folder, field)
    if compiled is None:
        return
    torch.manual_seed(99)
    expected = bench.oracle_logits(folder)
    scale = expected.abs().max().clamp(min=1.0)
    assert (bench.logits(compiled) - expected).abs().max() < TOLERANCE * scale


def compiled_or_refused(bench: Bench, folder: Path, field: str) -> Result | None:
    refusals: tuple[Refusal, ...] = ()
    try:
        return bench.compile(folder)
    except AdapterRefused as error:
        refusals = error.refusals
    assert any(is_about(one, field) for one in refusals), refusals
    return None


def is_about(refusal: Refusal, field: str) -> bool:
    """The field itself, or the tensor or module to which it now does not fit."""
    is_named = field in (refusal.subject, refusal.message) or f"{field!r}" in refusal.message
    is_tensor = refusal.subject.startswith("base_model.") or refusal.code == "wrong_shape"
    return is_named or is_tensor or refusal.code in ("peft_rejects", "invalid_field", "no_target")


def assert_unread(bench: Bench, default: Path, changed: Path, field: str) -> None:
    """The same bytes come out, whatever peft would do with a hub, a tokenizer or a class name."""
    before, after = bench.compile(default), compiled_or_refused(bench, changed, field)
    if after is not None:
        assert Path(after.compiled).read_bytes() == Path(before.compiled).read_bytes()


def check(bench: Bench, default: Path, kind: str, change: Change) -> None:
    field, values = change
    if field in UNREAD:
        assert_unread(bench, default, edited(bench, default, values), field)
        return
    try:
        made = bench.make(VARIANTS[kind], **values)
    except Exception:
        made = None  # peft itself does not want it
    if made is not None:
        assert_followed_or_refused(bench, made, field)
    assert_followed_or_refused(bench, edited(bench, default, values), field)


def test_every_field_of_peft_has_values() -> None:
    for kind in KINDS:
        assert all(changes_of(kind, field) for field in fields_of(kind)), kind
        assert set(BY_KIND.get(kind, {})) <= set(fields_of(kind)), kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_field_is_followed_or_refused(
    bench: Bench, defaults: dict[str, Path], kind: str
) -> None:
    for change in sample(kind):
        check(bench, defaults[kind], kind, change)


@pytest.mark.parametrize("kind", KINDS)
def test_values_of_any_type_end_in_an_answer(
    bench: Bench, defaults: dict[str, Path], kind: str
) -> None:
    draw = random.Random(f"{SEED} {kind}")
    for _ in range(2 * SAMPLE):
        field, value = draw.choice(fields_of(kind)), draw.choice(STRANGE)
        with contextlib.suppress(AdapterRefused):
            bench.compile(edited(bench, defaults[kind], {field: value}))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_changed_field_is_followed_or_refused(
    bench: Bench, defaults: dict[str, Path], kind: str
) -> None:
    for change in changes(kind):
        check(bench, defaults[kind], kind, change)
