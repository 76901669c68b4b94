"""The compiler as the control plane sees it: an upload goes in, a checked version comes out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from service.adapters.manifest import Manifest


@dataclass(frozen=True, slots=True)
class CompileOutcome:
    manifest: Manifest
    folder: Path
    """Where the used files lie: the source itself, or where an archive was unpacked."""
    files: tuple[str, ...]
    """Names in `folder` that the version consists of."""
    compiled: Path
    warnings: tuple[str, ...]
    unused_files: tuple[str, ...]
    text_files: tuple[Path, ...] = ()
    """Those of `TEXT_FILES` that the version has, where the compiler wrote them."""


class Compiler(Protocol):
    def compile(
        self,
        source: Path,
        work: Path,
        convert_rank: int | None = None,
        *,
        is_stored: bool = False,
    ) -> CompileOutcome:
        """Check and compile a PEFT folder or an archive of one; blocking, thread-safe.

        With `convert_rank` the upload is first approximated by a LoRA of that rank.
        `is_stored`: the source is the folder of a version that was published before.
        Writes only under the existing folder `work`. Raises `AdapterRefused` or `UploadTooLarge`.
        """


class Reference(Protocol):
    def reference(self, source: Path, work: Path) -> Path:
        """What peft computes for a PEFT folder on prompts of its choice; blocking, thread-safe.

        The `.npz` under `work` holds for each prompt number i `prompt_i` (int64 ids), `task_i`,
        and float32 logits `[len(prompt), vocab]`: `base_i` without and `adapter_i` with the
        adapter. Raises `AdapterRefused` when peft cannot run it.
        """
