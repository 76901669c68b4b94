"""What is compared, how it is judged, and what follows from it for an upload."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.core import FinishReason, GenerationRequest, TokenEvent
from service.errors import AdapterRefused, ModelNotFound, Overloaded
from service.handlers.verification import Verifier
from service.tenancy import ANYONE
from tests.adapters.house import House, run
from tests.adapters.tiny_base import TinyBase
from tests.fakes import adapter_ref

VOCABULARY = 8


class WrittenReference:
    """Three prompts; the logits are those of `logits_of`."""

    def reference(self, source: Path, work: Path) -> Path:
        assert (source / "adapter_config.json").is_file()
        arrays: dict[str, Any] = {}
        for number, length in enumerate((2, 3, 5)):
            prompt = np.arange(length) + number
            arrays[f"prompt_{number}"] = prompt
            arrays[f"task_{number}"] = np.array(0)
            arrays[f"base_{number}"] = logits_of(prompt, has_adapter=False)
            arrays[f"adapter_{number}"] = logits_of(prompt, has_adapter=True)
        np.savez(work / "reference.npz", **arrays)
        return work / "reference.npz"


def logits_of(prompt: Any, *, has_adapter: bool) -> Any:
    rows = np.outer(np.asarray(prompt) + 1.0, np.arange(VOCABULARY))
    return (rows * (2 if has_adapter else 1)).astype(np.float32)


class LogitsEngine:
    def __init__(self, adapter_error: float = 0.0, base_error: float = 0.0) -> None:
        self.errors = {True: adapter_error, False: base_error}
        self.num_open = 0
        self.tenants: list[str] = []

    def submit(self, request: GenerationRequest) -> "LogitsStream":
        assert request.keep_logits
        assert request.params.max_tokens == 0
        has_adapter = request.adapter is not None
        logits = logits_of(request.prompt_ids, has_adapter=has_adapter)
        logits[-1, 3] += self.errors[has_adapter]
        self.num_open += 1
        self.tenants.append(request.tenant)
        return LogitsStream(self, TokenEvent(request.request_id, logits=logits))


class LogitsStream:
    def __init__(self, engine: LogitsEngine, event: TokenEvent) -> None:
        self._engine, self._events = engine, [event]

    def __aiter__(self) -> "LogitsStream":
        return self

    async def __anext__(self) -> TokenEvent:
        return self._events.pop()

    async def aclose(self) -> None:
        self._engine.num_open -= 1


def with_dtype(base: TinyBase, dtype: str) -> Any:
    from dataclasses import replace

    return replace(base.description, dtype=dtype)


def house_with(
    tmp_path: Path,
    base: TinyBase,
    engine: Any,
    dtype: str = "float32",
    quantization: Any = "none",
) -> House:
    description = replace(with_dtype(base, dtype), quantization=quantization)
    verifier = Verifier(description, engine, WrittenReference(), clock=lambda: 77.0)
    return House(tmp_path / "store", description, verifier=verifier)


@pytest.mark.parametrize(
    ("dtype", "adapter_error", "base_error", "is_exact"),
    [
        ("float32", 0.0, 0.0, True),
        ("float32", 5e-5, 0.0, True),
        ("float32", 2e-4, 0.0, False),
        ("float32", 2e-4, 1.0, False),
        ("bfloat16", 0.3, 0.2, True),
        ("bfloat16", 0.5, 0.2, False),
        ("bfloat16", float("nan"), 0.2, False),
    ],
)
def test_the_verdict(
    base: TinyBase,
    lora: Callable[[int], Path],
    tmp_path: Path,
    dtype: str,
    adapter_error: float,
    base_error: float,
    is_exact: bool,
) -> None:
    engine = LogitsEngine(adapter_error, base_error)
    verifier = Verifier(with_dtype(base, dtype), engine, WrittenReference(), clock=lambda: 77.0)
    verdict = asyncio.run(verifier.verify(adapter_ref("a"), lora(1), tmp_path))
    assert verdict.is_exact is is_exact
    assert verdict.max_logit_difference == pytest.approx(adapter_error, rel=0.1, nan_ok=True)
    assert verdict.base_difference == pytest.approx(base_error, rel=0.1)
    assert (verdict.num_positions, verdict.checked_at, verdict.dtype) == (10, 77, dtype)
    assert engine.num_open == 0


def test_a_check_counts_as_the_share_of_whose_adapter_it_is(
    base: TinyBase, lora: Callable[[int], Path], tmp_path: Path
) -> None:
    engine = LogitsEngine()
    verifier = Verifier(base.description, engine, WrittenReference())
    for name in ("team-a/a", "a"):
        asyncio.run(verifier.verify(adapter_ref(name), lora(1), tmp_path))
    assert engine.tenants == ["team-a"] * 6 + ["default"] * 6


@pytest.mark.parametrize(
    ("quantization", "adapter_error", "base_error", "is_exact"),
    [
        ("nf4", 2e-4, 0.0, False),
        ("int8", 0.03, 0.0, True),
        ("int8", 0.3, 0.2, True),
        ("int8", 0.1, 0.01, False),
        ("int8", 0.0, float("nan"), False),
    ],
)
def test_only_where_inputs_are_rounded_a_rounding_more_or_less_is_exact(
    base: TinyBase,
    lora: Callable[[int], Path],
    tmp_path: Path,
    quantization: Any,
    adapter_error: float,
    base_error: float,
    is_exact: bool,
) -> None:
    description = replace(base.description, quantization=quantization)
    engine = LogitsEngine(adapter_error, base_error)
    verifier = Verifier(description, engine, WrittenReference())
    verdict = asyncio.run(verifier.verify(adapter_ref("a"), lora(1), tmp_path))
    assert verdict.is_exact is is_exact


def test_an_upload_that_is_served_exactly_keeps_the_verdict(
    base: TinyBase, lora: Callable[[int], Path], tmp_path: Path
) -> None:
    house = house_with(tmp_path, base, LogitsEngine())

    async def publish() -> None:
        result = await house.publish("a", lora(1))
        assert result.version.verdict is not None
        assert result.version.verdict.is_exact
        ref, verdict = await house.service.verify("a@1")
        assert (ref.name, ref.version, verdict.is_exact) == ("a", 1, True)
        assert house.registry.in_use(ref.digest) == 0
        with pytest.raises(ModelNotFound):
            await house.service.verify("unknown")

    async def still_there() -> None:
        assert later.service.get("a").current.verdict.checked_at == 77

    run(house, publish)
    later = house_with(tmp_path, base, LogitsEngine())
    run(later, still_there)


def test_an_upload_that_differs_is_refused_and_leaves_nothing(
    base: TinyBase, lora: Callable[[int], Path], tmp_path: Path
) -> None:
    house = house_with(tmp_path, base, LogitsEngine(adapter_error=0.5))

    async def scenario() -> None:
        with pytest.raises(AdapterRefused) as caught:
            await house.publish("a", lora(1))
        assert [one.code for one in caught.value.refusals] == ["not_exact"]
        assert "0.5" in str(caught.value)
        assert house.service.visible.list(ANYONE, None, 10, None) == ([], False)
        assert house.cache.stats().num_adapters == 0
        assert len(house.unloaded) == 1

    run(house, scenario)


@pytest.mark.parametrize("rounded", [{"dtype": "bfloat16"}, {"quantization": "int8"}])
def test_rounding_is_no_reason_to_refuse(
    base: TinyBase, lora: Callable[[int], Path], tmp_path: Path, rounded: dict[str, str]
) -> None:
    """There the measure bounds noise: the verdict is shown, the upload is published."""
    house = house_with(tmp_path, base, LogitsEngine(0.9, 0.2), **rounded)

    async def scenario() -> None:
        result = await house.publish("a", lora(1))
        assert result.version.verdict is not None
        assert not result.version.verdict.is_exact

    run(house, scenario)


def test_an_engine_without_room_refuses_the_upload(
    base: TinyBase, lora: Callable[[int], Path], tmp_path: Path
) -> None:
    class FullEngine(LogitsEngine):
        def submit(self, request: GenerationRequest) -> LogitsStream:
            raise Overloaded("full")

    house = house_with(tmp_path, base, FullEngine())

    async def scenario() -> None:
        with pytest.raises(Overloaded):
            await house.publish("a", lora(1))
        assert house.service.visible.list(ANYONE, None, 10, None) == ([], False)

    run(house, scenario)


def test_an_adapter_that_cannot_be_loaded_fails_with_its_reason(
    base: TinyBase, lora: Callable[[int], Path], tmp_path: Path
) -> None:
    class FailingEngine(LogitsEngine):
        def submit(self, request: GenerationRequest) -> LogitsStream:
            error = Overloaded("no room")
            event = TokenEvent(request.request_id, finish_reason=FinishReason.ERROR, error=error)
            return LogitsStream(self, event)

    verifier = Verifier(base.description, FailingEngine(), WrittenReference())
    with pytest.raises(Overloaded, match="no room"):
        asyncio.run(verifier.verify(adapter_ref("a"), lora(1), tmp_path))
