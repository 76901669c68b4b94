"""A process that lives through a store's life and is killed somewhere on the way.

`python -m tests.crash.scenario ROOT KIT LOG [STEP FAILPOINT]`: every finished step is written to
LOG; the fail point is armed during STEP alone. With a fail point the compiler is a prepared one,
since only the store is to be looked at; without, it is the real child.
"""

import asyncio
import json
import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from service.adapters.compiling import CompileOutcome
from service.adapters.failpoints import VARIABLE
from service.adapters.files import CHAT_TEMPLATE, VERSION_FILES
from service.adapters.manifest import Manifest
from service.adapters.moves import WantedMove
from service.adapters.naming import Selector
from service.compiler.job import decode_base
from tests.adapters.house import House

STEPS = (
    "start", "first", "second", "back", "move", "rollback", "other", "delete", "restore", "next",
    "drop", "undrop", "delete_again", "drop_again", "collect", "again",
)  # fmt: skip
"""`back` points to an older version; `move` moves the name and two aliases at once; `other`
publishes the same content under another name and `next` another one; `drop` deletes one version of
that name; `collect` comes when every grace is over."""

RETENTION_S = 1000.0

ONE_OF_B = Selector("b", number=1)
MOVE = WantedMove(2, {"stable": ((1, 1),), "canary": ((1, 95), (2, 5))})


@dataclass
class Kit:
    """What the scenario needs, made once by the test: a base and three compiled adapters."""

    folder: Path

    @property
    def base(self):
        return decode_base(json.loads((self.folder / "base.json").read_text()))

    def adapter(self, seed: int) -> Path:
        return self.folder / str(seed)

    def manifest(self, seed: int) -> Manifest:
        return Manifest.from_json(json.loads((self.folder / f"{seed}.json").read_text()))

    def compiled(self, seed: int) -> Path:
        return self.folder / f"{seed}.compiled"


class PreparedCompiler:
    """Knows the kit's adapters by their bytes."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self.num_calls = 0

    def compile(
        self,
        source: Path,
        work: Path,
        convert_rank: int | None = None,
        *,
        is_stored: bool = False,
    ) -> CompileOutcome:
        self.num_calls += 1
        seed = next(seed for seed in (1, 2, 3) if _is_same(self._kit.adapter(seed), source))
        compiled = shutil.copyfile(self._kit.compiled(seed), work / "compiled")
        manifest = self._kit.manifest(seed)
        text: tuple[Path, ...] = ()
        if manifest.has_chat_template:
            text = (Path(shutil.copy(source / CHAT_TEMPLATE, work)),)
        return CompileOutcome(manifest, source, VERSION_FILES, compiled, (), (), text)


def _is_same(one: Path, other: Path) -> bool:
    name = "adapter_model.safetensors"
    return (one / name).read_bytes() == (other / name).read_bytes()


def make_house(root: Path, kit: Kit, *, is_prepared: bool) -> House:
    compiler = PreparedCompiler(kit) if is_prepared else None
    base = replace(kit.base, folder=str(kit.folder / "base"))
    return House(root, base, compiler=compiler, deleted_retention_s=RETENTION_S)


async def live(house: House, kit: Kit, log: Path, step: str, point: str) -> None:
    service = house.service
    actions = {
        "start": service.start,
        "first": lambda: house.publish("a", kit.adapter(1)),
        "second": lambda: house.publish("a", kit.adapter(2)),
        "back": lambda: house.publish("a", kit.adapter(1)),
        "move": lambda: service.aliases.move("a", MOVE),
        "rollback": lambda: service.aliases.rollback("a"),
        "other": lambda: house.publish("b", kit.adapter(1)),
        "delete": lambda: service.delete("a"),
        "restore": lambda: service.deletions.restore("a"),
        "next": lambda: house.publish("b", kit.adapter(2)),
        "drop": lambda: service.deletions.delete_version(ONE_OF_B),
        "undrop": lambda: service.deletions.restore("b", 1),
        "delete_again": lambda: service.delete("a"),
        "drop_again": lambda: service.deletions.delete_version(ONE_OF_B),
        "collect": lambda: _collect_late(house),
        "again": lambda: house.publish("a", kit.adapter(2)),
    }
    for name in STEPS:
        if name == step:
            os.environ[VARIABLE] = point
        await actions[name]()
        os.environ.pop(VARIABLE, None)
        with log.open("a") as file:
            file.write(f"{name}\n")
    await service.close()


async def _collect_late(house: House) -> None:
    house.skipped_s = RETENTION_S
    await house.service.deletions.collect()
    house.skipped_s = 0.0


def main() -> None:
    root, kit, log = Path(sys.argv[1]), Kit(Path(sys.argv[2])), Path(sys.argv[3])
    step, point = sys.argv[4:6] if len(sys.argv) > 4 else ("", "")
    house = make_house(root, kit, is_prepared=bool(point))
    asyncio.run(live(house, kit, log, step, point))


if __name__ == "__main__":
    main()
