"""An import from its start to its end, whatever that is; the store and the fetch are real."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import errors
from service.adapters.lifetime import Lifetime
from service.adapters.limits import AdapterLimits
from service.handlers.adapters import Terms
from service.handlers.import_views import ImportState, ImportView
from service.handlers.imports import ImportPace
from service.tenancy import OF_SETTINGS, PRIVATE, Principal, Role, TenantLimits
from tests.sources.https_server import File, HttpsServer, https_server
from tests.sources.importing import Importing, archive
from tests.waiting import until_async

TEAM = Principal("team-a", Role.PUBLISH)


@pytest.fixture
def server() -> Iterator[HttpsServer]:
    with https_server() as made:
        made.paths["/a.zip"] = File(archive(), etag='"abc"')
        yield made


@pytest.fixture
def importing(server: HttpsServer, tmp_path: Path) -> Importing:
    return Importing(server, tmp_path / "store")


def test_an_import_becomes_a_version_that_says_where_it_is_from(importing: Importing) -> None:
    source = importing.server.url("/a.zip?sig=secret")

    async def scenario() -> None:
        began = await importing.begin(source, terms=Terms(Lifetime(None, 100), PRIVATE))
        assert began.state is ImportState.WAITING
        view = await importing.at(began)
        assert (view.state, view.failure) == (ImportState.READY, None)
        assert view.result is not None
        assert (view.result.version, view.result.is_created) == (1, True)
        size = len(archive())
        assert (view.num_bytes, view.total_bytes, view.revision) == (size, size, '"abc"')
        again = await importing.done(source)
        assert again.result is not None
        assert not again.result.is_created, "the same content is no other version"

    importing.run(scenario)
    history = importing.house.store.history("a")
    assert history.expires_at is not None
    assert history.visibility == PRIVATE
    origin = importing.origin("a", 1)
    assert origin is not None
    assert (origin.source, origin.revision) == (importing.server.url("/a.zip"), '"abc"')
    records = [
        record
        for log in importing.house.store.logs.names("audit")
        for record in importing.house.store.logs.read(f"audit/{log}")
    ]
    assert records[0]["after"]["sources.1"] == {"source": origin.source, "revision": '"abc"'}
    assert "secret" not in str(records)
    assert importing.is_clean()
    samples = importing.samples()
    assert samples["imports_total https ready"] == 2
    assert samples["import_bytes_total https"] == 2 * len(archive())
    assert not any(n for name, n in samples.items() if name.startswith("imports_running"))


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        (File(b"", status=404), "SourceNotFound"),
        (File(b"", status=403), "SourceDenied"),
        (File(archive(), cut_after=9, num_cuts=99), "SourceFailed"),
        (File(b"<html>Please log in.</html>"), "AdapterRefused"),
        (File(archive(**{"bomb": b"\0" * 400_000})), "UploadTooLarge"),
        (File(b"\0" * 300_000), "UploadTooLarge"),
    ],
)
def test_a_failure_says_why_and_leaves_nothing(
    file: File, kind: str, server: HttpsServer, tmp_path: Path
) -> None:
    limits = AdapterLimits(max_upload_bytes=200_000)
    importing = Importing(server, tmp_path / "store", house_options={"limits": limits})
    server.paths["/a.zip"] = file

    async def scenario() -> None:
        view = await importing.done(server.url("/a.zip"))
        assert view.state is ImportState.FAILED
        assert view.failure is not None
        assert view.failure.kind == kind, view.failure
        assert bool(view.failure.reasons) is (kind == "AdapterRefused")

    importing.run(scenario)
    assert importing.house.store.names() == []
    assert importing.is_clean()
    assert importing.samples()[f"imports_total https {view_outcome(kind)}"] == 1


def view_outcome(kind: str) -> str:
    return "".join(f"_{one.lower()}" if one.isupper() else one for one in kind).strip("_")


def test_a_file_that_is_begun_anew_is_counted_once(importing: Importing) -> None:
    importing.server.paths["/a.zip"] = File(archive(), etag="", cut_after=3000)

    async def scenario() -> None:
        view = await importing.done(importing.server.url("/a.zip"))
        assert view.state is ImportState.READY
        assert view.num_bytes == len(archive())

    importing.run(scenario)
    assert importing.is_clean()


def test_a_long_etag_is_not_kept_whole(importing: Importing) -> None:
    importing.server.paths["/a.zip"] = File(archive(), etag=f'"{"x" * 1000}"')

    async def scenario() -> None:
        view = await importing.done(importing.server.url("/a.zip"))
        assert view.state is ImportState.READY
        assert len(view.revision) == 256

    importing.run(scenario)
    origin = importing.origin("a", 1)
    assert origin is not None
    assert len(origin.revision) == 256


def test_a_staging_folder_forgets_what_is_begun_anew(importing: Importing) -> None:
    async def scenario() -> None:
        intake = importing.house.service.intake
        staging = await intake.open(0)
        await intake.receive(staging, 0, staging.begin_archive)
        for data in (b"other", b"right"):
            await intake.receive(staging, 5, lambda data=data: staging.write(data))
            if data == b"other":
                await intake.rewind(staging)
        await intake.receive(staging, 0, staging.end)
        assert staging.source.read_bytes() == b"right"
        assert (staging.num_bytes, intake._uploads.num_bytes) == (5, 5)
        await intake.discard(staging)

    importing.run(scenario)


@pytest.mark.parametrize(
    ("source", "name", "error"),
    [
        ("https://other.test/a.zip", "a", errors.SourceRefused),
        ("hf://org/repo", "a", errors.SourceRefused),
        ("s3://bucket/a", "a", errors.SourceRefused),
        ("/etc/passwd", "a", errors.SourceRefused),
        ("http://files.test/a", "a", errors.InvalidRequest),
        ("/a.zip", "no name", errors.InvalidRequest),
        ("/a.zip", "tiny", errors.NameConflict),
    ],
)
def test_what_can_be_refused_at_once_is(
    source: str, name: str, error: type[Exception], importing: Importing
) -> None:
    name = importing.house.base.name if name == "tiny" else name
    full = importing.server.url(source) if source == "/a.zip" else source

    async def scenario() -> None:
        with pytest.raises(error):
            await importing.begin(full, name)

    importing.run(scenario)
    assert importing.server.seen == []
    assert importing.is_clean()


def test_an_import_is_stopped_while_it_is_fetched(importing: Importing) -> None:
    file = importing.server.paths["/a.zip"] = File(archive(), gate=threading.Event())

    async def scenario() -> None:
        began = await importing.begin(importing.server.url("/a.zip"))
        await until_async(file.is_gated.is_set)
        stopped = await importing.imports.stop(OF_SETTINGS, began.id)
        assert stopped.state is ImportState.CANCELLED
        assert await importing.imports.stop(OF_SETTINGS, began.id) == stopped

    importing.run(scenario)
    file.gate.set()
    assert importing.house.store.names() == []
    assert importing.is_clean()
    assert importing.samples()["imports_total https cancelled"] == 1


def test_what_is_being_compiled_goes_on(
    importing: Importing, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    compile = importing.house.compiler.compile

    def slow(*arguments: object) -> object:
        assert go_on.wait(20)
        return compile(*arguments)

    monkeypatch.setattr(importing.house.compiler, "compile", slow)

    async def scenario() -> None:
        began = await importing.begin(importing.server.url("/a.zip"))
        await importing.at(began, ImportState.COMPILING)
        with pytest.raises(errors.ImportNotStoppable):
            await importing.imports.stop(OF_SETTINGS, began.id)
        go_on.set()
        assert (await importing.at(began)).state is ImportState.READY

    importing.run(scenario)


def test_a_shutdown_interrupts_what_is_fetched(importing: Importing) -> None:
    file = importing.server.paths["/a.zip"] = File(archive(), gate=threading.Event())
    began: list[ImportView] = []

    async def scenario() -> None:
        began.append(await importing.begin(importing.server.url("/a.zip")))
        await until_async(file.is_gated.is_set)

    importing.run(scenario)
    file.gate.set()
    one = importing.imports._imports.own(began[0].id)
    assert one is not None
    assert one.view.failure is not None
    assert one.view.failure.kind == "ImportInterrupted"
    assert importing.house.store.names() == []
    assert importing.is_clean()


def test_a_fetch_ends_at_its_time_limit(server: HttpsServer, tmp_path: Path) -> None:
    importing = Importing(server, tmp_path / "store", pace=ImportPace(timeout_s=0.2))
    file = server.paths["/a.zip"] = File(archive(), gate=threading.Event())

    async def scenario() -> None:
        view = await importing.done(server.url("/a.zip"))
        assert view.failure is not None
        assert view.failure.kind == "SourceTimeout"

    importing.run(scenario)
    file.gate.set()
    assert importing.is_clean()


def test_a_fetch_keeps_its_pace(server: HttpsServer, tmp_path: Path) -> None:
    """At a byte per second it is not over when its time is, though all was sent at once."""
    pace = ImportPace(timeout_s=1.0, bytes_per_second=1)
    importing = Importing(server, tmp_path / "store", pace=pace)

    async def scenario() -> None:
        view = await importing.done(server.url("/a.zip"))
        assert view.failure is not None
        assert view.failure.kind == "SourceTimeout"

    importing.run(scenario)
    assert importing.is_clean()


@pytest.mark.parametrize("pace", [ImportPace(num_at_once=1), ImportPace(num_at_once_of_tenant=1)])
def test_only_so_many_are_fetched_at_once(
    pace: ImportPace, server: HttpsServer, tmp_path: Path
) -> None:
    importing = Importing(server, tmp_path / "store", pace=pace)
    file = server.paths["/slow.zip"] = File(archive(2), gate=threading.Event())

    async def scenario() -> None:
        first = await importing.begin(server.url("/slow.zip"), "slow")
        await until_async(file.is_gated.is_set)
        second = await importing.begin(server.url("/a.zip"), "a")
        third = await importing.begin(server.url("/a.zip"), "b")
        assert (await importing.imports.stop(OF_SETTINGS, third.id)).state is (
            ImportState.CANCELLED
        ), "one that waits can be stopped"
        assert importing.samples()["imports_running waiting"] == 1
        file.gate.set()
        assert (await importing.at(first)).state is ImportState.READY
        assert (await importing.at(second)).state is ImportState.READY

    importing.run(scenario)
    assert importing.house.store.names() == ["a", "slow"]


def test_imports_are_uploads_that_are_open(server: HttpsServer, tmp_path: Path) -> None:
    limits = AdapterLimits(max_open_uploads=1)
    importing = Importing(server, tmp_path / "store", house_options={"limits": limits})
    file = server.paths["/slow.zip"] = File(archive(), gate=threading.Event())

    async def scenario() -> None:
        first = await importing.begin(server.url("/slow.zip"))
        with pytest.raises(errors.TooManyUploads):
            await importing.begin(server.url("/a.zip"), "b")
        file.gate.set()
        await importing.at(first)

    importing.run(scenario)


def test_a_tenants_room_is_asked_for_by_what_is_announced(
    server: HttpsServer, tmp_path: Path
) -> None:
    options = {"tenant_limits": TenantLimits(max_adapter_bytes=100)}
    importing = Importing(server, tmp_path / "store", house_options=options)

    async def scenario() -> None:
        view = await importing.done(server.url("/a.zip"), tenant="team-a")
        assert view.failure is not None
        assert view.failure.kind == "QuotaExceeded"

    importing.run(scenario)
    assert importing.is_clean()


def test_nothing_is_begun_while_nothing_may_be_changed(server: HttpsServer, tmp_path: Path) -> None:
    may_change = [False, True]
    options = {"may_change": lambda: may_change[0]}
    importing = Importing(server, tmp_path / "store", house_options=options)
    file = server.paths["/slow.zip"] = File(archive(), gate=threading.Event())

    async def scenario() -> None:
        with pytest.raises(errors.StoreUnavailable):
            await importing.begin(server.url("/a.zip"))
        may_change[0] = True
        began = await importing.begin(server.url("/slow.zip"))
        await until_async(file.is_gated.is_set)
        may_change[0] = False
        file.gate.set()
        view = await importing.at(began)
        assert view.failure is not None
        assert view.failure.kind == "StoreUnavailable"
        may_change[0] = True

    importing.run(scenario)
    assert importing.is_clean()


def test_another_tenants_imports_do_not_exist(importing: Importing) -> None:
    async def scenario() -> None:
        own = await importing.done(importing.server.url("/a.zip"), tenant="team-a")
        other = await importing.done(importing.server.url("/a.zip"), tenant="team-b")
        assert await importing.imports.get(TEAM, own.id) == own
        for call in (importing.imports.get, importing.imports.stop):
            with pytest.raises(errors.ImportNotFound):
                await call(TEAM, other.id)
        assert await importing.imports.list(TEAM, None) == [own]
        assert await importing.imports.list(OF_SETTINGS, "team-b") == [other]
        with pytest.raises(errors.PermissionDenied):
            await importing.imports.list(TEAM, "team-b")

    importing.run(scenario)


def test_an_end_is_told_for_a_while(server: HttpsServer, tmp_path: Path) -> None:
    importing = Importing(server, tmp_path / "store", pace=ImportPace(kept_s=60.0))

    async def scenario() -> None:
        first = await importing.done(server.url("/a.zip"))
        importing.house.skipped_s = 61.0
        second = await importing.done(server.url("/a.zip"))
        with pytest.raises(errors.ImportNotFound):
            await importing.imports.get(OF_SETTINGS, first.id)
        assert await importing.imports.list(OF_SETTINGS, None) == [second]

    importing.run(scenario)


def test_a_view_survives_its_way_to_other_replicas(importing: Importing) -> None:
    async def scenario() -> None:
        ready = await importing.done(importing.server.url("/a.zip"))
        importing.server.paths["/a.zip"] = File(b"no archive")
        failed = await importing.done(importing.server.url("/a.zip"))
        assert (ready.result, failed.failure) != (None, None)
        for view in (ready, failed):
            assert ImportView.from_json(view.to_json()) == view
            newer = json.loads(json.dumps(view.to_json() | {"speed": 3}))
            assert ImportView.from_json(newer) == view

    importing.run(scenario)
