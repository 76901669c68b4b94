"""A server with its base in 4 bits: adapters that were trained on it so are served as peft does."""

from pathlib import Path

import pytest

from tests.contract.kind_variants import KIND_VARIANTS, make_kind
from tests.contract.quantised import train
from tests.server import Server

pytestmark = pytest.mark.filterwarnings("ignore")


def test_qlora_and_dora_are_verified_on_the_base_in_four_bits(
    base_folder: Path, tmp_path: Path
) -> None:
    with Server(base_folder, tmp_path, quantization="nf4", verify_uploads=True) as server:
        version = server.client.get("/version").json()
        assert version["quantization"] == "nf4"
        assert version["dtype"] == "float32"
        assert "nf4" in server.log
        answers = set()
        for use_dora in (False, True):
            name = "dora" if use_dora else "qlora"
            fields = {"r": 4, "use_dora": use_dora, "target_modules": ["q_proj", "down_proj"]}
            folder = train(base_folder, "nf4", "LORA", tmp_path / name, **fields)
            published = server.upload(name, folder)
            assert published.status_code == 201, published.text
            check = published.json()["check"]
            assert check["verdict"] == "exact"
            assert check["max_logit_difference"] < 1e-4
            logprobs = server.complete(name, [5, 6, 7], logprobs=0)["choices"][0]["logprobs"]
            answers.add(tuple(logprobs["token_logprobs"]))
        assert len(answers) == 2
        again = server.client.post("/v1/adapters/dora/verify").json()
        assert again["verdict"] == "exact"
        refused = server.upload(
            "glora", make_kind(base_folder, KIND_VARIANTS["glora"], tmp_path / "glora")
        )
        assert refused.status_code == 422
        assert "8 or 4 bits" in refused.json()["error"]["reasons"][0]["message"]
