"""A base in few bits: the same bytes each time, rows by themselves, in the run dtype."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from service.base import Quantization
from service.compiler.tuners.base import load_peft_base
from service.errors import ConfigurationError
from service.model.loader import LoadedBase, LoadOptions, load_base
from service.quantized.loading import load_quantized
from service.quantized.modules import float_weight, is_quantized
from tests.contract.architectures import make_base, make_tokenizer

CPU = torch.device("cpu")
ALL: list[Quantization] = ["nf4", "fp4", "int8"]
PROJECTION = "model.layers.0.self_attn.q_proj"


def load(folder: Path, quantization: Quantization, **options: Any) -> LoadedBase:
    return load_base(
        LoadOptions(
            str(folder),
            device="cpu",
            **{"dtype": "float32", "quantization": quantization} | options,
        )
    )


def raw_bytes(model: torch.nn.Module) -> dict[str, bytes]:
    """Also of the scales, which are no parameters."""
    tensors = dict(model.state_dict())
    assert any("absmax" in name or "SCB" in name for name in tensors)
    return {name: one.contiguous().view(torch.uint8).numpy().tobytes() for name, one in
            tensors.items() if one.numel()}  # fmt: skip


@pytest.mark.parametrize("quantization", ALL)
def test_the_served_model_and_that_of_peft_have_the_same_bytes(
    folder: Path, quantization: Quantization
) -> None:
    served = load(folder, quantization)
    again = load_peft_base(folder, quantization, "float32")
    assert again.is_quantized
    assert raw_bytes(served.model) == raw_bytes(again.model)


@pytest.mark.parametrize("quantization", ALL)
def test_a_description_is_of_the_matrix_and_not_of_its_packed_bytes(
    folder: Path, quantization: Quantization
) -> None:
    plain, few = load(folder, "none").description, load(folder, quantization).description
    assert (plain.quantization, few.quantization) == ("none", quantization)
    assert few.fingerprint != plain.fingerprint
    for ours, theirs in zip(few.sites, plain.sites, strict=True):
        assert (ours.path, ours.kind, ours.rows) == (theirs.path, theirs.kind, theirs.rows)
        assert (ours.in_features, ours.out_features) == (theirs.in_features, theirs.out_features)
        is_packed = ours.kind == "linear" and ours.path != "lm_head"
        assert ours.weight == (None if is_packed else theirs.weight)


def test_every_quantisation_has_a_fingerprint_of_its_own(folder: Path) -> None:
    assert len({load(folder, one).description.fingerprint for one in ("none", *ALL)}) == 4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("quantization", ALL)
def test_a_row_knows_nothing_of_other_rows(
    folder: Path, quantization: Quantization, dtype: str
) -> None:
    """One of them is large enough to be an outlier of LLM.int8()."""
    module = load(folder, quantization, dtype=dtype).model.get_submodule(PROJECTION)
    assert is_quantized(module)
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(40, module.in_features, generator=draw).to(getattr(torch, dtype))
    others = rows.clone()
    others[20:] *= 1000
    with torch.inference_mode():
        together, beside = module(rows), module(others)
        alone = torch.cat([module(row[None]) for row in rows])
    assert torch.equal(together[:20], beside[:20])
    assert (alone - together).abs().max() < (1e-5 if dtype == "float32" else 0.05)


def test_with_the_usual_threshold_it_would(folder: Path) -> None:
    """What the test above would find in 8 bits, had the threshold been left as it is."""
    config = BitsAndBytesConfig(load_in_8bit=True)
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=config)
    module = model.eval().get_submodule(PROJECTION)
    rows = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    others = rows.clone()
    others[2:] *= 1000
    with torch.inference_mode():
        assert not torch.equal(module(rows)[:2], module(others)[:2])


@pytest.mark.parametrize("quantization", ALL)
def test_float32_is_computed_in_float32(folder: Path, quantization: Quantization) -> None:
    """In 4 bits; in 8 a row is rounded to 255 steps."""
    module = load(folder, quantization).model.get_submodule(PROJECTION)
    rows = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        difference = (module(rows) - rows @ float_weight(module).T).abs().max().item()
    assert difference < (0.1 if quantization == "int8" else 1e-5)


@pytest.mark.parametrize("double", [False, True])
def test_a_folder_that_is_stored_in_four_bits_is_served_as_it_is(
    folder: Path, tmp_path: Path, double: bool
) -> None:
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=double,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    stored = store(folder, tmp_path / "stored", config)
    base = load(stored, "none")
    assert base.description.quantization == "nf4"
    module = base.model.get_submodule(PROJECTION)
    assert module.compute_dtype is torch.float32
    assert raw_bytes(base.model) == raw_bytes(load_peft_base(stored, "nf4", "float32").model)
    fresh = load_quantized(folder, "nf4", torch.float32, CPU).get_submodule(PROJECTION)
    same = torch.equal(float_weight(module), float_weight(fresh))
    assert same is not double


def test_a_folder_that_is_stored_in_eight_bits_is_served_without_its_threshold(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stored = store(folder, tmp_path / "stored", BitsAndBytesConfig(load_in_8bit=True))
    with caplog.at_level(logging.WARNING, logger="service.quantized.loading"):
        base = load(stored, "none")
    assert "llm_int8_threshold" in caplog.text
    assert base.description.quantization == "int8"
    assert base.model.get_submodule(PROJECTION).state.threshold == 0
    fresh = load_quantized(folder, "int8", torch.float32, CPU)
    assert raw_bytes(base.model) == raw_bytes(fresh)


def store(folder: Path, target: Path, config: BitsAndBytesConfig) -> Path:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=config
    )
    model.save_pretrained(target)
    make_tokenizer().save_pretrained(target)
    return target


@pytest.mark.parametrize(
    ("architecture", "sentence"),
    [
        ("mamba", "'mamba' does not run in nf4"),
        ("falcon", "'falcon' has no module that nf4 rounds"),
    ],
)
def test_an_architecture_that_cannot_be_in_few_bits_is_refused(
    tmp_path: Path, architecture: str, sentence: str
) -> None:
    """One reads the weights of its modules itself, the other has linear modules of its own."""
    with pytest.raises(ConfigurationError, match=sentence):
        load(make_base(architecture, tmp_path / architecture), "nf4")
