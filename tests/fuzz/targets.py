"""What is fuzzed: each target takes bytes and ends with the name of an outcome that is allowed.

Anything else it raises is a finding. Whatever it does, it may write below its work folder alone.
"""

import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from service.adapters.files import CONFIG, READ_FILES, WEIGHTS
from service.adapters.limits import AdapterLimits
from service.adapters.safetensors_header import MalformedFile, read_tensor_infos
from service.base import SiteDescription
from service.compiler.compile import run_job
from service.compiler.job import Job
from service.compiler.unpack import unpack
from service.errors import AdapterRefused, UploadTooLarge
from tests.fakes import base_description
from tests.fuzz import mutators

LIMITS = AdapterLimits(max_upload_bytes=1 << 20, max_unpacked_bytes=4 << 20, max_files=16)
ROOT = Path(__file__).resolve().parents[2]
SITE = "model.layers.0.self_attn.q_proj"
BASE = replace(
    base_description(),
    folder=str(ROOT / "demo" / "demo-base"),
    sites=(SiteDescription(SITE, "linear", 8, 8, "all", None, None, False),),
    modules=((SITE, "Linear"),),
)
LORA = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["q_proj"],
    "bias": "none",
    "base_model_name_or_path": "tiny",
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
    "use_rslora": False,
    "use_dora": False,
    "init_lora_weights": True,
    "inference_mode": True,
    "revision": None,
    "layers_to_transform": None,
    "exclude_modules": None,
}
TOKENIZER = json.loads((ROOT / "demo" / "demo-base" / "tokenizer_config.json").read_text())
TENSOR = f"base_model.model.{SITE}.lora_%s.weight"
HEADER = {
    TENSOR % "A": {"dtype": "F32", "shape": [2, 8], "data_offsets": [0, 64]},
    TENSOR % "B": {"dtype": "F32", "shape": [8, 2], "data_offsets": [64, 128]},
    "__metadata__": {"format": "pt"},
}
DATA = struct.pack("<32f", *[0.01 * i for i in range(32)])
FOLDER = {
    CONFIG: json.dumps(LORA).encode(),
    WEIGHTS: mutators.safetensors(HEADER, DATA),
}


@dataclass(frozen=True)
class Target:
    make: Callable[[random.Random], bytes]
    run: Callable[[bytes, Path], str]
    """The bytes and an empty folder → the outcome."""
    num_cases: int = 100
    """Of the short form, in about a second."""


def _header(draw: random.Random) -> bytes:
    data = mutators.safetensors(mutators.mutated_json(draw, HEADER), DATA)
    return mutators.mutated_bytes(draw, data) if draw.random() < 0.3 else data


def _read_header(data: bytes, work: Path) -> str:
    file = work / WEIGHTS
    file.write_bytes(data)
    try:
        infos = read_tensor_infos(file)
    except MalformedFile:
        return "refused"
    for info in infos.values():
        assert 0 <= info.offset <= info.offset + info.num_bytes <= len(data)
    return "read"


def _folder(file: str, right: dict[str, object]) -> Target:
    def run(data: bytes, work: Path) -> str:
        return compiled({**FOLDER, file: data}, work)

    num_cases = 100 if file == CONFIG else 15  # the others read the base's tokenizer each time
    return Target(lambda draw: mutators.mutated_json(draw, right), run, num_cases)


def _compile_weights(data: bytes, work: Path) -> str:
    return compiled({**FOLDER, WEIGHTS: data}, work)


def compiled(files: dict[str, bytes], work: Path) -> str:
    source, inner = work / "source", work / "work"
    source.mkdir()
    inner.mkdir()
    for name, data in files.items():
        (source / name).write_bytes(data)
    try:
        result = run_job(Job(str(source), str(inner), BASE, LIMITS, False))
    except AdapterRefused as error:
        return reason(error)
    except UploadTooLarge:
        return "too large"
    result.encode()
    return "needs peft" if result.needs_peft else "compiled"


def reason(error: AdapterRefused) -> str:
    """There is at least one, all are sentences, and together they fit into an answer."""
    told = [(one.code, one.subject, one.message) for one in error.refusals]
    if not told or not all(code and message for code, _, message in told):
        raise AssertionError("refused without a reason")
    if len(json.dumps(told).encode()) > 200_000:
        raise AssertionError("the reasons are too long")
    return told[0][0]


def _archive(draw: random.Random) -> bytes:
    make = draw.choice((mutators.zip_archive, mutators.tar_archive))
    data = make(draw, FOLDER)
    return mutators.mutated_bytes(draw, data) if draw.random() < 0.4 else data


def _unpack(data: bytes, work: Path) -> str:
    archive, folder = work / "archive", work / "folder"
    archive.write_bytes(data)
    folder.mkdir()
    try:
        outcome = f"unpacked {min(len(unpack(archive, folder, LIMITS)), 3)}"
    except AdapterRefused as error:
        outcome = reason(error)
    except UploadTooLarge:
        outcome = "too large"
    found = list(folder.iterdir())
    assert all(path.name in READ_FILES and path.is_file() for path in found), found
    assert not any(path.is_symlink() for path in found)
    assert sum(path.stat().st_size for path in found) <= LIMITS.max_unpacked_bytes
    return outcome


TARGETS = {
    "header": Target(_header, _read_header),
    "weights": Target(_header, _compile_weights),
    "config": _folder(CONFIG, LORA),
    "tokenizer_config": _folder("tokenizer_config.json", TOKENIZER),
    "added_tokens": _folder("added_tokens.json", {"<x>": 300, "<y>": 301}),
    "special_tokens_map": _folder("special_tokens_map.json", TOKENIZER),
    "archive": Target(_archive, _unpack, 60),
}
