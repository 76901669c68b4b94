"""`check`: would an adapter be accepted, and in which form would it be served?

Runs the job of an upload in a temporary folder and keeps nothing of it.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from service.adapters.compiled import CompiledHeader, read_header
from service.adapters.compiling import CompileOutcome, Compiler
from service.adapters.folders import copy_files
from service.adapters.limits import AdapterLimits
from service.adapters.naming import written_digest
from service.base import BaseDescription
from service.errors import AdapterRefused, ConfigurationError, Refusal, UploadTooLarge
from service.handlers.adapter_size import check_size


def check_source(source: Path) -> None:
    """Raises `ConfigurationError` when there is nothing to check."""
    if not source.exists():
        raise ConfigurationError(f"There is no folder or archive {str(source)!r}.")


@dataclass(frozen=True, slots=True)
class Verdict:
    base: BaseDescription
    outcome: CompileOutcome | None = None
    """Its files are gone; None when the adapter is refused."""
    header: CompiledHeader | None = None
    reasons: tuple[Refusal, ...] = ()

    @property
    def is_accepted(self) -> bool:
        return self.outcome is not None

    def body(self) -> dict[str, Any]:
        """For `--json`."""
        reasons = [
            {"code": one.code, "subject": one.subject, "message": one.message}
            for one in self.reasons
        ]
        head = {"accepted": self.is_accepted, "base": self.base.name, "dtype": self.base.dtype}
        return head | self._details() | {"reasons": reasons}

    def lines(self) -> Iterator[str]:
        """For people."""
        if self.outcome is None:
            yield f"refused: it cannot be served exactly on {self.base.name}"
            yield from (f"  {one.code} ({one.subject}): {one.message}" for one in self.reasons)
            return
        yield f"accepted: it would be served on {self.base.name}"
        for name, value in self._details().items():
            if isinstance(value, dict):
                value = [f"{term} at {count}" for term, count in value.items()]
            if isinstance(value, list):
                value = "; ".join(value) if name == "warnings" else ", ".join(value)
            elif isinstance(value, bool):
                value = "yes" if value else "no"
            if value not in ("", 0):
                yield f"  {name.replace('_', ' '):<17} {value}"

    def _details(self) -> dict[str, Any]:
        if self.outcome is None or self.header is None:
            return {}
        manifest = self.outcome.manifest
        return {
            "kind": manifest.kind,
            "form": manifest.form,
            "modules": _count_modules(self.header),
            "rank": manifest.rank,
            "targets": list(manifest.targets),
            "virtual_tokens": manifest.num_virtual_tokens,
            "prefix_tokens": manifest.num_prefix_tokens,
            "tasks": manifest.num_tasks,
            "memory_bytes": manifest.payload_bytes(self.base.dtype),
            "chat_template": "own" if manifest.has_chat_template else "base",
            "added_tokens": manifest.num_added_tokens,
            "summable": manifest.is_summable,
            "digest": written_digest(manifest.digest),
            "warnings": list(self.outcome.warnings),
            "unused_files": list(self.outcome.unused_files),
        }


@dataclass(frozen=True, slots=True)
class Checker:
    base: BaseDescription
    compiler: Compiler
    limits: AdapterLimits
    max_compiled_bytes: int

    def check(self, source: Path) -> Verdict:
        """Raises `ConfigurationError` when `source` cannot be read."""
        try:
            with tempfile.TemporaryDirectory(prefix="repertoire-check-") as work:
                return self._judge(source, Path(work))
        except AdapterRefused as error:
            return Verdict(self.base, reasons=error.refusals)
        except UploadTooLarge as error:
            reason = Refusal("too_large", source.name, str(error))
            return Verdict(self.base, reasons=(reason,))
        except OSError as error:
            raise ConfigurationError(f"{source} cannot be read ({error.strerror})") from error

    def _judge(self, source: Path, work: Path) -> Verdict:
        (work / "job").mkdir()
        if source.is_dir():
            (work / "files").mkdir()
            unused = copy_files(source, work / "files")
            outcome = self.compiler.compile(work / "files", work / "job")
            outcome = replace(outcome, unused_files=(*outcome.unused_files, *unused))
        else:
            if source.stat().st_size > self.limits.max_upload_bytes:
                raise UploadTooLarge(f"More than {self.limits.max_upload_bytes} bytes.")
            outcome = self.compiler.compile(source.absolute(), work / "job")
        check_size(outcome.manifest, self.base.dtype, self.max_compiled_bytes)
        with outcome.compiled.open("rb") as file:
            return Verdict(self.base, outcome, read_header(file))


def _count_modules(header: CompiledHeader) -> dict[str, int]:
    """How many modules of the base get each term, weights of their own, or peft's own layer."""
    counts: Counter[str] = Counter()
    for site in header.sites:
        counts.update(f"term {name}" for name in site.terms)
        counts["weights of its own"] += bool(site.parameters)
        counts["peft's own layer"] += site.layer is not None
    layers = {tuple(name.split(".")[:2]) for name in header.tables}
    counts.update(f"learned {kind} of attention" for kind, *_ in layers)
    return {name: count for name, count in sorted(counts.items()) if count}
