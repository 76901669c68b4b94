from collections.abc import Callable, Iterator

import pytest
import torch

from tests.contract.architectures import ARCHITECTURES
from tests.contract.bench import Bench, make_bench
from tests.contract.harness import Budgets, Harness
from tests.contract.variants import EVERY, fast_variants

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
BENCHES = [
    *(pytest.param((name, fast_variants(name)), id=name) for name in ARCHITECTURES),
    *(
        pytest.param((name, EVERY), marks=pytest.mark.slow, id=f"{name}-everything")
        for name in ARCHITECTURES
        if fast_variants(name) != EVERY
    ),
]
"""What `make test` shows, and what `make test-kinds` shows beside it."""


@pytest.fixture(scope="session", params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session", params=BENCHES)
def bench(
    request: pytest.FixtureRequest, device: str, tmp_path_factory: pytest.TempPathFactory
) -> Bench:
    name, variants = request.param
    return make_bench(name, device, tmp_path_factory.mktemp(name), variants)


@pytest.fixture
def harness(bench: Bench) -> Iterator[Callable[..., Harness]]:
    made: list[Harness] = []

    def build(**budgets: int) -> Harness:
        made.append(Harness(bench.base, bench.source, Budgets(**budgets)))
        return made[-1]

    yield build
    for one in made:
        one.close()
