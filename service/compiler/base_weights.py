"""The base's weights as a child process sees them: mapped from their files, never copied whole."""

from pathlib import Path

from service.base import TensorLocation
from service.compiler.arrays import DTYPES, Array, MappedFile


class BaseWeights:
    def __init__(self) -> None:
        self._files: dict[str, MappedFile] = {}

    def view(self, location: TensorLocation | None) -> Array | None:
        """None when the bytes cannot be found or are in a form numpy cannot read (quantised)."""
        if location is None or location.dtype not in DTYPES:
            return None
        if location.file not in self._files:
            self._files[location.file] = MappedFile(Path(location.file))
        return self._files[location.file].view(location)
