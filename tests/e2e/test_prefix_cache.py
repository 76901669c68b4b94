"""What a running server says of the beginnings that it found, and that versions find their own."""

from pathlib import Path

from tests.e2e import tiny_adapters as tiny
from tests.server import Server

PROMPT = [3 + 7 * index % 90 for index in range(40)]
"""Two full blocks of 16 and a rest."""


def ask(server: Server, model: str) -> tuple[list[int], int]:
    """(answer, prompt tokens found)"""
    answer = server.complete(model, PROMPT, ignore_eos=True)
    assert answer["usage"]["prompt_tokens"] == 40
    return tiny.output_ids(answer), answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_every_version_finds_its_own_beginnings(base_folder: Path, tmp_path: Path) -> None:
    first, second = (tiny.write(tmp_path / f"v{seed}", seed) for seed in (1, 2))
    with Server(base_folder, tmp_path) as server:
        answers = {}
        server.upload("task", first)
        answers["task@1"] = ask(server, "task")
        server.upload("task", second)
        answers["task@2"] = ask(server, "task")
        answers[base_folder.name] = ask(server, base_folder.name)
        assert [found for _, found in answers.values()] == [0, 0, 0]
        assert len({tuple(ids) for ids, _ in answers.values()}) == 3
        for model, (ids, _) in answers.items():
            assert ask(server, model) == (ids, 32)
        assert server.metric("repertoire_prefix_cache_hit_tokens_total") == 96


def test_it_can_be_switched_off(base_folder: Path, tmp_path: Path) -> None:
    with Server(base_folder, tmp_path, prefix_cache=False) as server:
        assert ask(server, base_folder.name) == ask(server, base_folder.name)
        assert server.metric("repertoire_prefix_cache_query_tokens_total") == 0
