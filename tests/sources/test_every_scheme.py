"""From the settings of an operator to a version of an adapter, by every way there is."""

from pathlib import Path

import pytest

from service.adapters.files import VERSION_FILES
from service.handlers.import_views import ImportState
from tests.s3_server import CREDENTIALS, S3Server
from tests.sources.https_server import File, HttpsServer
from tests.sources.importing import Importing, archive
from tests.sources.test_hub import COMMIT, HubOf


def test_every_scheme_comes_to_a_version(
    server: HttpsServer, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    HubOf(server).open()
    server.paths["/a.zip"] = File(archive())
    bucket, local = s3.new_bucket(), tmp_path / "root" / "one"
    local.mkdir(parents=True)
    for name in VERSION_FILES:
        s3.client.put_object(Bucket=bucket, Key=f"team/one/{name}", Body=b"{}")
        (local / name).write_bytes(b"[]")
    settings = {
        "source_hub_endpoint": server.url("", "hub.test"),
        "source_hub_hosts": server.host("cdn.test"),
        "source_hub_repos": "org/repo",
        "source_hub_token": "of-the-hub",
        "source_buckets": f"{bucket}/team",
        "source_s3_endpoint_url": s3.url,
        "source_root": local.parent,
    }
    importing = Importing(server, tmp_path / "store", settings)
    sources = {
        "web": server.url("/a.zip"),
        "hub": "hf://org/repo@v1",
        "bucket": f"s3://{bucket}/team/one",
        "local": "one",
    }

    async def scenario() -> None:
        for name, source in sources.items():
            view = await importing.done(source, name)
            assert view.state is ImportState.READY, view.failure

    importing.run(scenario)
    origins = {name: importing.origin(name, 1) for name in sources}
    assert {name: origin and origin.source for name, origin in origins.items()} == sources
    assert origins["hub"] is not None
    assert origins["hub"].revision == COMMIT
    tokens = {one.headers.get("authorization") for one in server.seen if one.host == "hub.test"}
    assert tokens == {"Bearer of-the-hub"}
    assert importing.is_clean()
    ended = {name for name in importing.samples() if name.startswith("imports_total")}
    assert ended == {f"imports_total {scheme} ready" for scheme in ("https", "hf", "s3", "path")}
