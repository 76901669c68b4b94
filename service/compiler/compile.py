"""One upload, from files to a compiled form: everything is checked before anything is written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.adapters.compiled import write_compiled
from service.adapters.files import CONFIG, PICKLED_WEIGHTS, VERSION_FILES, WEIGHTS
from service.adapters.limits import AdapterLimits
from service.adapters.manifest import Manifest
from service.adapters.safetensors_header import MalformedFile, read_tensor_infos, strict_json
from service.adapters.text_files import text_digest
from service.compiler.arrays import MappedFile
from service.compiler.base_identity import base_disagreements
from service.compiler.digest import content_digest
from service.compiler.foreign import foreign_format
from service.compiler.job import Job, Result
from service.compiler.kinds.kind import KINDS, PlannerFor, plain_planner
from service.compiler.own_text import OwnText, read_text
from service.compiler.refusals import Refusals
from service.compiler.terms import Plan
from service.compiler.unpack import unpack
from service.compiler.upload import Upload


def run_job(job: Job, planner_for: PlannerFor = plain_planner) -> Result:
    """Raises `AdapterRefused` or `UploadTooLarge`."""
    source, work = Path(job.source), Path(job.work)
    folder, names = _open_source(source, work, job.limits)
    refusals = Refusals(job.limits.max_refusals)
    text = read_text(folder, names, job, refusals)
    config = _read_config(folder, names, job.limits, refusals)
    warnings = _check_base(config, job, refusals)
    upload = _read_upload(config, folder, names, refusals)
    planner = planner_for(upload, job.base)
    if planner is None:
        refusals.raise_if_any()
        return Result(needs_peft=True, folder=str(folder))
    plan = planner(upload, job.base, job.limits, refusals)
    text_files = text.files()
    digest = content_digest(plan, text_digest(text_files))
    compiled = work / "compiled"
    header = plan.header(digest, job.base.fingerprint, job.base.dtype)
    with compiled.open("xb") as file:
        write_compiled(file, header, plan.chunks())
    _write_text(work, text_files)
    return Result(
        manifest=_manifest(plan, text, digest, folder),
        folder=str(folder),
        files=VERSION_FILES,
        compiled=str(compiled),
        warnings=(*warnings, *plan.warnings),
        unused_files=tuple(sorted(set(names) - set(VERSION_FILES) - text.used_files)),
        text_files=tuple(sorted(text_files)),
    )


def _open_source(source: Path, work: Path, limits: AdapterLimits) -> tuple[Path, tuple[str, ...]]:
    if source.is_dir():
        return source, tuple(sorted(path.name for path in source.iterdir() if path.is_file()))
    folder = work / "unpacked"
    folder.mkdir()
    return folder, unpack(source, folder, limits)


def _read_config(
    folder: Path, names: tuple[str, ...], limits: AdapterLimits, refusals: Refusals
) -> dict[str, Any]:
    if CONFIG not in names:
        refusals.add("missing_file", CONFIG, f"{CONFIG} is missing.")
    elif (folder / CONFIG).stat().st_size > limits.max_config_bytes:
        refusals.add("invalid_file", CONFIG, f"{CONFIG} exceeds {limits.max_config_bytes} bytes.")
    else:
        try:
            config = strict_json((folder / CONFIG).read_bytes())
            if isinstance(config, dict):
                return config
            refusals.add("invalid_file", CONFIG, f"{CONFIG} is not a JSON object.")
        except MalformedFile as error:
            refusals.add("invalid_file", CONFIG, f"{CONFIG}: {error}")
    _check_weights_exist(names, refusals)
    refusals.raise_if_any()
    return {}


def _check_base(config: dict[str, Any], job: Job, refusals: Refusals) -> tuple[str, ...]:
    disagreements = base_disagreements(config, job.base)
    if not job.is_base_strict:
        return tuple(sentence for _, sentence in disagreements)
    for field, sentence in disagreements:
        refusals.add("wrong_base", field, sentence)
    return ()


def _check_weights_exist(names: tuple[str, ...], refusals: Refusals) -> bool:
    pickled = sorted(PICKLED_WEIGHTS & set(names))
    if WEIGHTS in names:
        return True
    if pickled:
        message = (
            f"{pickled[0]} is a pickle, which is never opened. Convert it: load it with peft and"
            " call save_pretrained(folder, safe_serialization=True)."
        )
        refusals.add("pickle", pickled[0], message)
    else:
        refusals.add("missing_file", WEIGHTS, f"{WEIGHTS} is missing.")
    return False


def _read_upload(
    config: dict[str, Any], folder: Path, names: tuple[str, ...], refusals: Refusals
) -> Upload:
    foreign = foreign_format(config)
    if foreign is not None:
        refusals.add("unsupported_kind", CONFIG, foreign)
        refusals.raise_if_any()
    kind = config.get("peft_type")
    is_supported = isinstance(kind, str) and kind in KINDS
    if not is_supported:
        supported = ", ".join(sorted(KINDS))
        message = f"peft_type {str(kind)[:100]!r} is not supported; supported: {supported}."
        refusals.add("unsupported_kind", "peft_type", message)
    if not _check_weights_exist(names, refusals) or not is_supported:
        refusals.raise_if_any()
    try:
        infos = read_tensor_infos(folder / WEIGHTS)
    except MalformedFile as error:
        refusals.add("invalid_file", WEIGHTS, f"{WEIGHTS}: {error}")
        refusals.raise_if_any()
        raise
    return Upload(config, infos, MappedFile(folder / WEIGHTS))


def _write_text(work: Path, files: Mapping[str, bytes]) -> None:
    if files:
        (work / "text").mkdir()
    for name, data in files.items():
        (work / "text" / name).write_bytes(data)


def _manifest(plan: Plan, text: OwnText, digest: str, folder: Path) -> Manifest:
    text_files = text.files()
    num_bytes = sum((folder / name).stat().st_size for name in VERSION_FILES)
    return Manifest(
        digest=digest,
        kind=plan.kind,
        rank=plan.rank,
        targets=plan.targets,
        num_bytes=num_bytes + sum(map(len, text_files.values())),
        low_rank_sizes=plan.low_rank_sizes(),
        vector_sizes=plan.vector_sizes(),
        byte_sizes=plan.byte_sizes(),
        form=plan.form,
        num_virtual_tokens=plan.front.num_virtual,
        num_prefix_tokens=plan.front.num_prefix,
        num_tasks=plan.front.num_tasks,
        invocation_tokens=plan.front.invocation,
        is_summable=plan.is_summable,
        text_digest=text_digest(text_files),
        has_chat_template=text.template is not None,
        num_added_tokens=len(text.tokens.tokens),
    )
