"""What parent and child say to each other: one job as JSON in, one result as JSON out."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from service.adapters.limits import AdapterLimits
from service.adapters.manifest import Conversion, Manifest
from service.base import BaseDescription, KVLayer, SiteDescription, TensorLocation
from service.errors import Refusal

Task = Literal["compile", "reference", "convert"]
"""Compile an upload, compute what peft makes of it on probe prompts, or approximate it by LoRA."""


@dataclass(frozen=True, slots=True)
class Job:
    source: str
    """A PEFT folder, or an archive of one."""
    work: str
    """The only folder the child may write to."""
    base: BaseDescription
    limits: AdapterLimits
    is_base_strict: bool
    """A base or revision that disagrees is a refusal instead of a warning."""
    is_stored: bool = False
    """The source is a version of the store, whose `TEXT_FILES` are the compiler's own."""
    task: Task = "compile"
    convert_rank: int = 0
    """Of a conversion."""

    def encode(self, encoded_base: str) -> bytes:
        """`encoded_base` is `encode_base(self.base)`, made once because it can be megabytes."""
        rest = {
            "source": self.source,
            "work": self.work,
            "limits": asdict(self.limits),
            "is_base_strict": self.is_base_strict,
            "is_stored": self.is_stored,
            "task": self.task,
            "convert_rank": self.convert_rank,
        }
        return f'{{"base":{encoded_base},"rest":{json.dumps(rest)}}}'.encode()

    @classmethod
    def decode(cls, data: bytes) -> "Job":
        raw = json.loads(data)
        rest = raw["rest"]
        limits = AdapterLimits(**rest.pop("limits"))
        return cls(base=decode_base(raw["base"]), limits=limits, **rest)


@dataclass(frozen=True, slots=True)
class Result:
    """Exactly one of `manifest`, `refusals`, `too_large`, `needs_peft`, `reference`,
    `conversion` and `crash` is set."""

    manifest: Manifest | None = None
    folder: str = ""
    files: tuple[str, ...] = ()
    compiled: str = ""
    warnings: tuple[str, ...] = ()
    unused_files: tuple[str, ...] = ()
    text_files: tuple[str, ...] = ()
    """Names in the folder `text` of the work folder."""
    refusals: tuple[Refusal, ...] = ()
    too_large: str = ""
    needs_peft: bool = False
    """A kind that peft has to read: the compile server's work."""
    reference: str = ""
    """Path of the logits that a reference job has written."""
    conversion: Conversion | None = None
    """What a conversion cost; `folder` holds its result."""
    crash: str = ""
    """For the log only: may name paths."""

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Result":
        raw = json.loads(data)
        manifest = raw["manifest"]
        return cls(
            manifest=Manifest.from_json(manifest) if manifest else None,
            folder=str(raw["folder"]),
            files=tuple(map(str, raw["files"])),
            compiled=str(raw["compiled"]),
            warnings=tuple(map(str, raw["warnings"])),
            unused_files=tuple(map(str, raw["unused_files"])),
            text_files=tuple(map(str, raw["text_files"])),
            refusals=tuple(Refusal(**reason) for reason in raw["refusals"]),
            too_large=str(raw["too_large"]),
            needs_peft=bool(raw["needs_peft"]),
            reference=str(raw["reference"]),
            conversion=Conversion.from_json(raw["conversion"]) if raw["conversion"] else None,
            crash=str(raw["crash"]),
        )


def encode_base(base: BaseDescription) -> str:
    return json.dumps(asdict(base), separators=(",", ":"))


def decode_base(raw: dict[str, Any]) -> BaseDescription:
    sites = tuple(
        SiteDescription(
            **{**site, "weight": _location(site["weight"]), "bias": _location(site["bias"])}
        )
        for site in raw["sites"]
    )
    modules = tuple((path, kind) for path, kind in raw["modules"])
    kv_layers = tuple(KVLayer(**layer) for layer in raw["kv_layers"])
    return BaseDescription(**{**raw, "sites": sites, "modules": modules, "kv_layers": kv_layers})


def _location(raw: Mapping[str, Any] | None) -> TensorLocation | None:
    return TensorLocation(**{**raw, "shape": tuple(raw["shape"])}) if raw else None
