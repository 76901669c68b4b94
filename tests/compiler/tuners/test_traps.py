"""What other servers of many adapters get wrong without a word, one test each."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from service.adapters.sums import merge_parts, sum_ref
from service.core import AdapterPart
from tests.compiler.tuners.bench import PROBE, TOLERANCE, Bench
from tests.contract.compiling import CompiledFolders
from tests.contract.harness import Budgets, Harness
from tests.contract.kind_variants import KIND_VARIANTS, KindVariant

pytestmark = pytest.mark.filterwarnings("ignore")

WEIGHTS = "adapter_model.safetensors"
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def lora(**fields: Any) -> KindVariant:
    return KindVariant("LORA", lambda _: {"r": 4, "lora_alpha": 8, "target_modules": ALL} | fields)


def without(bench: Bench, folder: Path, **fields: Any) -> Path:
    """The same tensors under a config that says less, as a reader that passes over it would see."""
    target = bench.new_folder() / "less"
    shutil.copytree(folder, target)
    config = json.loads((folder / "adapter_config.json").read_text())
    (target / "adapter_config.json").write_text(json.dumps({**config, **fields}))
    return target


def served(bench: Bench, folder: Path) -> torch.Tensor:
    """Equal to peft's, or this fails."""
    compiled = bench.compile(folder)
    assert bench.difference(compiled, folder) < TOLERANCE
    return bench.logits(compiled)


def differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one - other).abs().max() > 100 * TOLERANCE)


def test_dora_is_not_served_as_plain_lora(bench: Bench) -> None:
    dora = bench.make(lora(use_dora=True))
    plain = without(bench, dora, use_dora=False)
    low_rank = {name: one for name, one in load_file(dora / WEIGHTS).items() if "lora_" in name}
    save_file({name: one for name, one in low_rank.items() if "magn" not in name}, plain / WEIGHTS)
    assert differ(served(bench, dora), served(bench, plain))


@pytest.mark.parametrize(
    "pattern", [{"alpha_pattern": {"q_proj": 32}}, {"alpha_pattern": {r"layers\.1\.mlp.*": 1}}]
)
def test_alpha_patterns_are_followed(bench: Bench, pattern: dict[str, Any]) -> None:
    folder = bench.make(lora(**pattern))
    assert differ(served(bench, folder), served(bench, without(bench, folder, alpha_pattern={})))


def test_rank_patterns_are_followed(bench: Bench) -> None:
    """The scaling hangs on the module's own rank."""
    served(bench, bench.make(lora(rank_pattern={"up_proj": 9, r"layers\.0\..*v_proj": 1})))


@pytest.mark.parametrize("layer", [0, 1])
def test_an_adapter_of_some_layers_is_served_there(bench: Bench, layer: int) -> None:
    """The first layer without tensors does not end the search for them."""
    folder = bench.make(lora(layers_to_transform=[layer]))
    compiled = bench.compile(folder)
    assert compiled.manifest is not None
    assert set(compiled.manifest.targets) == set(ALL)
    assert differ(served(bench, folder), bench.logits(None))


@pytest.mark.parametrize(
    "name", ["lora-saved-head", "lora-saved-embedding", "lora-saved-norm", "lora-embedding"]
)
def test_what_lies_beside_the_low_rank_matrices_is_not_dropped(bench: Bench, name: str) -> None:
    folder = bench.make(name)
    tensors = load_file(folder / WEIGHTS)
    beside = {key for key in tensors if "lora_A" not in key and "lora_B" not in key}
    assert beside
    full = served(bench, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    targets = [one for one in config["target_modules"] if one != "embed_tokens"]
    less = without(bench, folder, modules_to_save=None, target_modules=targets)
    save_file({key: one for key, one in tensors.items() if key not in beside}, less / WEIGHTS)
    assert differ(full, served(bench, less))


def test_a_sum_is_linear_in_what_the_adapters_do(bench: Bench) -> None:
    """Not in their factors: averaged factors would have products of one adapter's A with the
    other's B, and weights squared."""
    folders = [bench.make(lora(lora_alpha=alpha), seed=alpha) for alpha in (4, 16)]
    source = CompiledFolders(bench.base, bench.new_folder())
    refs = [source.add(str(number), folder) for number, folder in enumerate(folders)]
    weights = (0.5, -0.25)
    total = sum_ref(merge_parts(map(AdapterPart, refs, weights)))
    run = Harness(bench.base, source, Budgets(device_bytes=8 << 20))
    request = run.add(PROBE, total, max_tokens=1)
    run.run()
    run.close()
    rows = run.lane.logits[request]
    actual = torch.stack([rows[position] for position in sorted(rows)])
    summed = bench.fresh_model()
    own = {name: one.clone() for name, one in summed.state_dict().items()}
    for folder, weight in zip(folders, weights, strict=True):
        merged = PeftModel.from_pretrained(bench.fresh_model(), folder).merge_and_unload()
        for name, tensor in summed.state_dict().items():
            tensor += weight * (merged.state_dict()[name] - own[name])
    with torch.no_grad():
        expected = summed(torch.tensor([PROBE])).logits[0]
    assert (actual - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", ["lora-saved-norm", "ia3", "prompt", "boft", "vera"])
def test_new_content_is_another_version_whatever_its_name(bench: Bench, name: str) -> None:
    """One value of one tensor, or one field that has an effect, and it is another digest."""
    folder = bench.make(name)
    again, changed = (without(bench, folder) for _ in range(2))
    tensors = load_file(folder / WEIGHTS)
    first = min(key for key, one in tensors.items() if one.is_floating_point())
    tensors[first].view(-1)[0] += 1e-3
    save_file(tensors, changed / WEIGHTS)
    digests = [bench.compile(one).manifest.digest for one in (folder, again, changed)]
    assert digests[0] == digests[1] != digests[2]


def test_a_field_that_has_an_effect_is_part_of_the_version(bench: Bench) -> None:
    folder = bench.make("hira")
    exclude = bench.make("lora-saved-norm", lora_alpha=3)
    assert bench.compile(folder).manifest.digest != bench.compile(exclude).manifest.digest
    louder = without(bench, exclude, lora_alpha=4)
    assert bench.compile(exclude).manifest.digest != bench.compile(louder).manifest.digest


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("prompt", "tokenizer_name_or_path"),
        ("prompt", "base_model_name_or_path"),
        ("multitask-prompt", "prompt_tuning_init_state_dict_path"),
        ("vera", "base_model_name_or_path"),
    ],
)
def test_a_path_in_a_config_is_never_opened(bench: Bench, name: str, field: str) -> None:
    """It leads to a pipe that nobody writes to: opening it would not come back."""
    pipe = bench.new_folder() / "pipe"
    os.mkfifo(pipe)
    changed = without(bench, bench.make(name), **{field: str(pipe), "prompt_tuning_init": "TEXT"})
    if "prompt" not in name:
        changed = without(bench, bench.make(name), **{field: str(pipe)})
    bench.compile(changed)


def test_code_that_a_config_names_is_never_imported(bench: Bench) -> None:
    folder = bench.make(KIND_VARIANTS["ia3"])
    hostile = {"parent_library": "no.such.module", "base_model_class": "Anything"}
    bench.compile(without(bench, folder, auto_mapping=hostile))


def test_another_name_for_the_base_is_a_warning(bench: Bench) -> None:
    """The name is a string that somebody typed; what has to fit are the tensors."""
    folder = without(bench, bench.make("ia3"), base_model_name_or_path="somebody/else")
    (warning,) = bench.compile(folder).warnings
    assert "somebody/else" in warning
