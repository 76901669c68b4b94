from collections.abc import Callable

import pytest

from tests.compiler.tuners.bench import Bench, make_bench


@pytest.fixture(scope="session")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bench]:
    """By architecture."""
    made: dict[str, Bench] = {}

    def get(architecture: str) -> Bench:
        if architecture not in made:
            made[architecture] = make_bench(tmp_path_factory.mktemp(architecture), architecture)
        return made[architecture]

    return get


@pytest.fixture(scope="session")
def bench(benches: Callable[[str], Bench]) -> Bench:
    return benches("llama")
