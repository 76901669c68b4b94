"""Turns the PEFT folders that people put into the store into versions, once, at start."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from service.adapters.backends.folder_store import PRIVATE_FOLDER
from service.adapters.compiling import CompileOutcome, Compiler
from service.adapters.folders import (
    FolderNote,
    FolderNotes,
    copy_files,
    judging_context,
    list_folders,
    stamp,
)
from service.adapters.limits import AdapterLimits
from service.adapters.naming import NAME_RULE, is_valid_name
from service.adapters.staging import Staging
from service.adapters.store import AdapterStore
from service.base import BaseDescription
from service.errors import AdapterRefused, Refusal, RepertoireError

_log = logging.getLogger(__name__)

_PASSING_CODES = frozenset({"too_expensive", "compile_failed"})
"""Reasons that may be the machine's, so that the next start tries again."""

Commit = Callable[[str, CompileOutcome], object]


class FolderImporter:
    """Blocking. A folder becomes a version only when its content was never recorded for its name,

    so that neither a restart nor a delete is undone by a folder that still lies there.
    """

    def __init__(
        self,
        store: AdapterStore,
        compiler: Compiler,
        base: BaseDescription,
        limits: AdapterLimits,
        *,
        is_base_strict: bool,
    ) -> None:
        self._store = store
        self._compiler = compiler
        self._base = base
        self._limits = limits
        self._context = judging_context(base, limits, is_base_strict=is_base_strict)

    def run(self, commit: Commit) -> dict[str, tuple[Refusal, ...]]:
        """Publish what is new through `commit`; returns the reasons against each broken folder."""
        root = self._store.shipped
        if root is None:
            return {}
        notes = FolderNotes(root / PRIVATE_FOLDER / "folders.json", self._store.temporary)
        known = notes.load()
        found = dict(self._judge_all(root, known, commit))
        if found != known:
            notes.save(found.items())
        return {name: note.refusals for name, note in found.items() if note.refusals}

    def _judge_all(
        self, root: Path, known: dict[str, FolderNote], commit: Commit
    ) -> Iterator[tuple[str, FolderNote]]:
        for folder in list_folders(root):
            note = known.get(folder.name)
            if note is None or not self._is_current(note, folder):
                note = self._judge(folder, commit)
            if note.refusals:
                _log.warning("adapter folder %s: %s", folder.name, note.refusals[0].message)
            yield folder.name, note

    def _is_current(self, note: FolderNote, folder: Path) -> bool:
        if note.context != self._context or note.stamp != stamp(folder):
            return False
        return note.digest is None or note.digest in self._store.history(folder.name).digests

    def _judge(self, folder: Path, commit: Commit) -> FolderNote:
        note = FolderNote(stamp(folder), self._context, None)
        if problem := self._name_problem(folder.name):
            return replace(note, refusals=(Refusal("invalid_name", folder.name, problem),))
        staging = Staging(self._store.temporary, self._limits)
        try:
            unused = copy_files(folder, staging.files)
            outcome = self._compiler.compile(staging.files, staging.work)
            outcome = replace(outcome, unused_files=tuple(sorted((*outcome.unused_files, *unused))))
            if outcome.manifest.digest not in self._store.history(folder.name).digests:
                commit(folder.name, outcome)
            return replace(note, digest=outcome.manifest.digest)
        except AdapterRefused as error:
            is_final = not any(reason.code in _PASSING_CODES for reason in error.refusals)
            return replace(note, context=self._context if is_final else "", refusals=error.refusals)
        except (RepertoireError, OSError) as error:
            message = str(error) if isinstance(error, RepertoireError) else "It cannot be read."
            reasons = (Refusal("unusable", folder.name, message),)
            return replace(note, context="", refusals=reasons)
        finally:
            staging.discard()

    def _name_problem(self, name: str) -> str | None:
        if not is_valid_name(name):
            return f"The folder's name is no adapter name: {NAME_RULE}."
        return "The base model has this name." if name == self._base.name else None
