"""Reads a PEFT folder that has passed every check of a compile before."""

from pathlib import Path

from service.adapters.files import CONFIG, WEIGHTS
from service.adapters.safetensors_header import read_tensor_infos, strict_json
from service.compiler.arrays import MappedFile
from service.compiler.upload import Upload


def read_folder(folder: Path) -> Upload:
    config = strict_json((folder / CONFIG).read_bytes())
    return Upload(config, read_tensor_infos(folder / WEIGHTS), MappedFile(folder / WEIGHTS))
