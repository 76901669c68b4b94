"""What is wrong with the tensors of an upload is said by name, whatever its kind."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from service.compiler.tuners.kinds.registry import UNSERVABLE
from service.errors import AdapterRefused
from tests.compiler.tuners.bench import Bench
from tests.contract.kind_variants import KIND_VARIANTS

pytestmark = pytest.mark.filterwarnings("ignore")

SERVED = [name for name, one in KIND_VARIANTS.items() if one.peft_type not in UNSERVABLE]
WEIGHTS = "adapter_model.safetensors"
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def folders(bench: Bench) -> dict[str, Path]:
    return {name: bench.make(name) for name in SERVED}


def refusals(bench: Bench, folder: Path, tensors: Tensors) -> set[tuple[str, str]]:
    target = bench.new_folder()
    (target / "adapter_config.json").write_text((folder / "adapter_config.json").read_text())
    save_file(tensors, target / WEIGHTS)
    with pytest.raises(AdapterRefused) as caught:
        bench.compile(target)
    return {(one.code, one.subject) for one in caught.value.refusals}


def without(tensors: Tensors, name: str) -> Tensors:
    return {key: value for key, value in tensors.items() if key != name}


def wider(tensor: torch.Tensor) -> torch.Tensor:
    return torch.cat([tensor, tensor[-1:]]).contiguous()


def spoilt(tensor: torch.Tensor) -> torch.Tensor:
    changed = tensor.clone()
    changed.view(-1)[-1] = float("nan")
    return changed


def is_base_copy(name: str) -> bool:
    """Of an embedding that is a target: optional, but has to equal the base's."""
    return name.endswith("base_layer.weight")


BREAKAGES: dict[str, Callable[[Tensors, str], Tensors]] = {
    "missing_tensor": without,
    "wrong_shape": lambda tensors, name: tensors | {name: wider(tensors[name])},
    "wrong_dtype": lambda tensors, name: tensors | {name: tensors[name].int()},
    "not_finite": lambda tensors, name: tensors | {name: spoilt(tensors[name])},
}


@pytest.mark.parametrize("name", SERVED)
def test_every_breakage_of_every_kind(bench: Bench, folders: dict[str, Path], name: str) -> None:
    tensors = load_file(folders[name] / WEIGHTS)
    floats = sorted(
        key for key, value in tensors.items() if value.is_floating_point() and not is_base_copy(key)
    )
    for code, break_one in BREAKAGES.items():
        for victim in {floats[0], floats[-1]}:
            assert (code, victim) in refusals(bench, folders[name], break_one(tensors, victim))


@pytest.mark.parametrize("name", SERVED)
def test_tensors_that_no_config_asks_for(bench: Bench, folders: dict[str, Path], name: str) -> None:
    tensors = load_file(folders[name] / WEIGHTS)
    strange = {"base_model.model.model.layers.0.mlp.gate_proj.lora_A.weight", "weight"}
    reasons = refusals(bench, folders[name], tensors | {one: torch.ones(2) for one in strange})
    assert reasons == {("unknown_tensor", one) for one in strange}


@pytest.mark.parametrize("name", [name for name in SERVED if name != "unilora"])
def test_adapters_of_a_base_of_another_size(
    benches: Callable[[str], Bench], bench: Bench, folders: dict[str, Path], name: str
) -> None:
    """All but UniLoRA's, which says nothing that has a size of the base's."""
    other = benches("wide")
    with pytest.raises(AdapterRefused):
        other.compile(folders[name])


def test_a_copy_of_the_base_has_to_be_one(bench: Bench, folders: dict[str, Path]) -> None:
    folder = folders["lora-embedding"]
    tensors = load_file(folder / WEIGHTS)
    (name,) = filter(is_base_copy, tensors)
    for changed in (tensors[name] + 1, tensors[name].int(), tensors[name][:3].contiguous()):
        assert refusals(bench, folder, tensors | {name: changed}) == {("base_differs", name)}
