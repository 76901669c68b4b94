"""peft's layers, taken apart to JSON and tensors and put together again; nothing else is."""

import enum
import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from peft import get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForCausalLM, PreTrainedModel

from service.operator.snapshot import Snapshot, UnknownPart, restore
from tests.contract.architectures import ARCHITECTURES
from tests.contract.kind_variants import KIND_VARIANTS, LLAMA, perturb

pytestmark = pytest.mark.filterwarnings("ignore")

WITHOUT_LAYERS = {
    "ADAPTION_PROMPT", "CARTRIDGE", "CPT", "LN_TUNING", "MULTITASK_PROMPT_TUNING", "POLY",
    "PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING",
}  # fmt: skip
"""Nothing of theirs is served through a layer of peft's."""
VARIANTS = [name for name, one in KIND_VARIANTS.items() if one.peft_type not in WITHOUT_LAYERS]


def base_model() -> PreTrainedModel:
    torch.manual_seed(0)
    config = getattr(ARCHITECTURES["llama"], "make_config", ARCHITECTURES["llama"])()
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def layers_of(model: torch.nn.Module) -> Iterator[Any]:
    """peft's layers that stand where the base had one of its own."""
    for module in model.modules():
        if isinstance(module, BaseTunerLayer) and hasattr(module, "base_layer"):
            yield module


def through_json(layer: torch.nn.Module, paths: dict[int, str], modules: dict[str, Any]) -> Any:
    snapshot = Snapshot(paths)
    frozen = json.loads(json.dumps(snapshot.take(layer)))
    return restore(frozen, snapshot.tensors, modules.__getitem__)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_kind_of_layer_comes_back(name: str) -> None:
    model = base_model()
    modules = dict(model.named_modules())
    paths = {id(module): path for path, module in modules.items()}
    variant = KIND_VARIANTS[name]
    config = PEFT_TYPE_TO_CONFIG_MAPPING[variant.peft_type](
        task_type="CAUSAL_LM", **variant.fields(LLAMA)
    )
    adapted = get_peft_model(model, config).eval()
    perturb(adapted, variant.spread)
    found = list(layers_of(adapted))
    assert found
    for layer in found:
        again = through_json(layer, paths, modules)
        assert again.get_base_layer() is layer.get_base_layer(), "the base is not part of it"
        rows = inputs(layer.get_base_layer())
        with torch.no_grad():
            torch.testing.assert_close(again(rows), layer(rows), atol=1e-5, rtol=0)


def inputs(base: torch.nn.Module) -> torch.Tensor:
    if isinstance(base, torch.nn.Embedding):
        return torch.arange(6)[None]
    return torch.randn(1, 6, base.in_features, generator=torch.Generator().manual_seed(0))


def take(value: Any) -> Any:
    layer = torch.nn.Identity()
    layer.held = value
    return Snapshot({}).take(layer)


def again(value: Any) -> Any:
    layer = torch.nn.Identity()
    layer.held = value
    return through_json(layer, {}, {}).held


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({1: "a", "b": (2, None)}, {1: "a", "b": (2, None)}),
        ([1.5, True, {"x": []}], [1.5, True, {"x": []}]),
        (Colour.RED, "red"),
        (torch.bfloat16, torch.bfloat16),
        ({(1, 2): 3}, {(1, 2): 3}),
        ({"tensor": 0, "module": "os:system"}, {"tensor": 0, "module": "os:system"}),
    ],
)
def test_plain_values_come_back(value: Any, expected: Any) -> None:
    assert again(value) == expected


def test_a_tensor_that_occurs_twice_is_kept_once() -> None:
    shared = torch.ones(3)
    layer = torch.nn.Identity()
    layer.held = {"one": shared, "two": [shared, torch.ones(3)]}
    snapshot = Snapshot({})
    frozen = snapshot.take(layer)
    assert len(snapshot.tensors) == 2
    held = restore(frozen, snapshot.tensors, {}.__getitem__).held
    assert held["one"] is held["two"][0]
    assert held["one"] is not held["two"][1]


def deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


class Own:
    """Neither peft's nor torch.nn's."""


@pytest.mark.parametrize(
    "value",
    [Own(), Own, len, lambda: 1, json, deep(100), 1j, b"bytes", torch.Generator(), range(3)],
    ids=["object", "class", "builtin", "lambda", "module", "deep", "complex", "bytes",
         "generator", "range"],
)  # fmt: skip
def test_what_cannot_be_written_down(value: Any) -> None:
    with pytest.raises(UnknownPart):
        take(value)


def test_modules_of_other_packages_are_not_taken() -> None:
    class Mine(torch.nn.Module):
        pass

    with pytest.raises(UnknownPart):
        Snapshot({}).take(Mine())


def module_named(name: str) -> dict[str, Any]:
    return {"module": name, "attributes": {}, "parameters": {}, "buffers": {}, "modules": {}}


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "torch:load",
        "transformers.trainer:Trainer",
        "peft.tunersx:A",
        "peft.tuners.lora.layer:nn.Linear",
        "peft.tuners.lora.layer:Any",
        "peft.tuners.lora.layer:PeftWarning",
        "peft.tuners.lora.layer:dispatch_default",
        "torch.nn.modules.module:register_module_forward_hook",
        "torch.nn.modules.module:Module.__init__",
        "",
    ],
)
def test_names_of_other_code_are_not_followed(name: str) -> None:
    with pytest.raises(UnknownPart):
        restore(module_named(name), [], {}.__getitem__)
    with pytest.raises(UnknownPart):
        restore(
            module_named("torch.nn.modules.linear:Identity")
            | {"attributes": {"held": {"object": name, "attributes": {}}}},
            [],
            {}.__getitem__,
        )


def test_only_dtypes_are_dtypes() -> None:
    held = {"attributes": {"held": {"dtype": "load"}}}
    with pytest.raises(UnknownPart):
        restore(module_named("torch.nn.modules.linear:Identity") | held, [], {}.__getitem__)


@pytest.mark.parametrize("frozen", [3, None, {"list": []}, {"dict": []}, {"tensor": 0}])
def test_something_that_is_no_layer(frozen: Any) -> None:
    with pytest.raises(UnknownPart):
        restore(frozen, [torch.ones(1)], {}.__getitem__)


def test_no_constructor_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Constructors draw random numbers, and read what a config tells them to."""

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("constructed")

    monkeypatch.setattr(LoraLinear, "__init__", fail)
    layer = restore(module_named("peft.tuners.lora.layer:Linear"), [], {}.__getitem__)
    assert isinstance(layer, LoraLinear)
    assert not layer.training
