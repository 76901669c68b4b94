from collections.abc import Callable

import pytest

from tests.compiler.tuners.bench import Bench, make_bench


@pytest.fixture(scope="session")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bench]:
    """By architecture."""
    made: dict[str, Bench] = {}

    def get(architecture: str) -> Bench:
        if architecture not in made:
            root = tmp_path_factory.mktemp(architecture.replace("/", "-"))
            made[architecture] = make_bench(root, architecture)
        return made[architecture]

    return get


@pytest.fixture(scope="session")
def bench(benches: Callable[[str], Bench]) -> Bench:
    return benches("llama")
