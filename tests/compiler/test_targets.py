"""Target resolution against peft's own, over random rules and module names."""

import re
from types import SimpleNamespace

import pytest
from hypothesis import given, settings, strategies as st
from peft.tuners.tuners_utils import _ExcludedModule, check_target_module_exists
from peft.utils.other import get_pattern_key

from service.compiler.kinds.targets import TargetRule, pattern_key

LEAVES = ("q_proj", "v_proj", "experts.0.up", "mlp.down_proj", "norm")
PATHS = (
    *(f"model.layers.{n}.{b}.{leaf}" for n in (0, 1, 11) for b in ("a", "b") for leaf in LEAVES),
    *(f"h.{n}.{leaf}" for n in (0, 2) for leaf in LEAVES),
    "lm_head", "model.embed_tokens", "q_proj",
)  # fmt: skip
names = st.sampled_from(
    [*PATHS, "q_proj", "v_proj", "proj", "up", "0.up", "a.q_proj", "layers.1.a.q_proj", ""]
)
lists = st.lists(names, max_size=4)
regexes = st.sampled_from([r".*q_proj", r".*\.(q|v)_proj", r"model\..*[01]\..*", "lm_head", "x"])
layers = st.one_of(st.none(), st.integers(0, 11), st.lists(st.integers(0, 11), max_size=3))
patterns = st.one_of(
    st.none(),
    st.sampled_from(["layers", "h", "experts", "x"]),
    st.lists(st.sampled_from(["h", "layers"]), max_size=2),
)


@settings(max_examples=400, deadline=None)
@given(
    include=st.one_of(lists, regexes),
    exclude=st.one_of(lists, regexes),
    layers=layers,
    pattern=patterns,
)
def test_the_same_modules_as_peft(include, exclude, layers, pattern) -> None:
    config = SimpleNamespace(
        target_modules=set(include) if isinstance(include, list) else include,
        exclude_modules=set(exclude) if isinstance(exclude, list) else exclude,
        layers_to_transform=layers,
        layers_pattern=pattern,
        modules_to_save=None,
        target_parameters=None,
    )
    if isinstance(include, str):
        config.layers_to_transform = config.layers_pattern = layers = pattern = None
    expected = tuple(
        path
        for path in PATHS
        if (found := check_target_module_exists(config, path))
        and not isinstance(found, _ExcludedModule)
    )
    rule = TargetRule(
        include=include if isinstance(include, str) else frozenset(include),
        exclude=exclude if isinstance(exclude, str) else frozenset(exclude),
        layers=(layers,) if isinstance(layers, int) else (tuple(layers or ()) or None),
        layers_pattern=(pattern,) if isinstance(pattern, str) else tuple(pattern or ()),
    )
    assert rule.resolve([(path, "Linear") for path in PATHS], "lm_head") == expected


@given(
    keys=st.lists(st.sampled_from(["q_proj", "^model.*v_proj", r"layers\.1\..*", "0.up", "h"])),
    path=st.sampled_from(PATHS),
)
def test_the_same_pattern_key_as_peft(keys, path) -> None:
    expected = get_pattern_key(keys, path)
    assert pattern_key(keys, path) == (expected if expected in keys else None)


def test_all_linear_leaves_out_the_output_module_and_other_classes() -> None:
    modules = [("", "Model"), ("a", "Linear"), ("b", "Embedding"), ("c", "Conv1D"), ("o", "Linear")]
    rule = TargetRule("All-Linear", exclude=frozenset({"c"}))
    assert rule.resolve(modules, "o") == ("a",)


def test_a_pattern_that_is_no_expression_raises() -> None:
    rule = TargetRule(frozenset({"q_proj"}), layers=(1,), layers_pattern=("(",))
    with pytest.raises(re.error):
        rule.resolve([("model.layers.1.q_proj", "Linear")], None)
