"""The routes over a tiny application of their own: real store, real child, real error table."""

import io
import json
import tarfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from service.adapters.limits import AdapterLimits
from service.api import adapters as routes, aliases, deletions
from service.api.dependencies import get_principal
from service.api.exceptions import error_response
from service.errors import RepertoireError
from service.tenancy import Principal, TenantLimits
from tests.adapters.house import House
from tests.adapters.peft_folders import make_lora
from tests.adapters.tiny_base import TinyBase, make_base
from tests.api.conftest import World

LIMITS = AdapterLimits(max_upload_bytes=200_000, max_unpacked_bytes=300_000, max_files=8)


@dataclass
class FakeServices:
    """The part of `Services` that these routes look at."""

    adapters: object
    access: object


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> TinyBase:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def folder(base: TinyBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_lora(base, tmp_path_factory.mktemp("lora"))


@pytest.fixture
def house(tmp_path: Path, base: TinyBase) -> House:
    return House(tmp_path / "store", base.description, LIMITS)


@pytest.fixture
def client(house: House) -> Iterator[TestClient]:
    with serving(house) as client:
        yield client
    assert list(house.store.temporary.iterdir()) == [], "nothing may be left over"


@contextmanager
def serving(house: House) -> Iterator[TestClient]:
    app = FastAPI()
    app.state.services = FakeServices(house.service, World().access)
    app.dependency_overrides[get_principal] = Principal
    app.include_router(routes.router, prefix="/v1")
    app.include_router(aliases.router, prefix="/v1")
    app.include_router(deletions.router, prefix="/v1")

    @app.exception_handler(RepertoireError)
    async def answer(_: Request, error: RepertoireError):
        return error_response(error)

    with TestClient(app) as client:
        client.portal.call(house.service.start)
        yield client
        client.portal.call(house.service.close)


def parts(folder: Path, **changed: bytes | None) -> list[tuple[str, tuple[str, bytes]]]:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    files.update({name.replace("__", "."): data for name, data in changed.items()})
    return [("files", (name, data)) for name, data in files.items() if data is not None]


def zipped(folder: Path, prefix: str = "", extra: Callable[[zipfile.ZipFile], None] | None = None):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            archive.write(path, prefix + path.name)
        if extra:
            extra(archive)
    return buffer.getvalue()


def tarred(folder: Path, extra: Callable[[tarfile.TarFile], None] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(folder, arcname="my-adapter")
        if extra:
            extra(archive)
    return buffer.getvalue()


def post_archive(client: TestClient, data: bytes, name: str = "a") -> httpx.Response:
    return client.post("/v1/adapters", data={"name": name}, files={"archive": ("x.bin", data)})


def test_files_become_a_version(client: TestClient, folder: Path) -> None:
    response = client.post("/v1/adapters", data={"name": "a"}, files=parts(folder))
    assert response.status_code == 201, response.text
    body = response.json()
    assert body["name"] == "a"
    assert body["version"] == 1
    assert body["created"]
    assert body["digest"].startswith("sha256:")
    assert len(body["digest"]) == 71
    assert (body["kind"], body["rank"], body["targets"]) == ("lora", 4, ["q_proj", "v_proj"])
    assert body["bytes"] > 0
    assert body["unused_files"] == ["README.md"]
    assert body["warnings"] == []

    again = client.post("/v1/adapters", data={"name": "a"}, files=parts(folder))
    assert (again.status_code, again.json()["version"]) == (200, 1)

    one = client.get("/v1/adapters/a").json()
    assert one["state"] == "ready"
    assert one["current"]["digest"] == body["digest"]
    assert [entry["name"] for entry in client.get("/v1/adapters").json()["data"]] == ["a"]
    assert client.delete("/v1/adapters/a").json()["deleted"]
    assert client.get("/v1/adapters/a").status_code == 404
    assert client.delete("/v1/adapters/a").status_code == 404


@pytest.mark.parametrize("pack", [zipped, tarred, lambda f: zipped(f, "inner/")])
def test_archives_give_the_same_version_as_files(client, folder: Path, pack) -> None:
    first = client.post("/v1/adapters", data={"name": "a"}, files=parts(folder)).json()
    response = post_archive(client, pack(folder), "b")
    assert response.status_code == 201, response.text
    assert response.json()["digest"] == first["digest"]
    assert response.json()["unused_files"] == ["README.md"]


def add_zip_link(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    archive.writestr(info, "/etc/passwd")


def add_tar(kind: bytes, name: str = "my-adapter/evil") -> Callable[[tarfile.TarFile], None]:
    def add(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type = kind
        info.linkname = "adapter_config.json"
        archive.addfile(info)

    return add


def write(name: str) -> Callable[[zipfile.ZipFile], None]:
    return lambda archive: archive.writestr(name, b"x")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "make",
    [
        lambda f: zipped(f, extra=add_zip_link),
        lambda f: zipped(f, extra=write("../evil")),
        lambda f: zipped(f, extra=write("/etc/evil")),
        lambda f: zipped(f, extra=write("a/b/evil")),
        lambda f: zipped(f, extra=write("c:\\evil")),
        lambda f: zipped(f, extra=write("adapter_config.json")),
        lambda f: tarred(f, add_tar(tarfile.SYMTYPE)),
        lambda f: tarred(f, add_tar(tarfile.LNKTYPE)),
        lambda f: tarred(f, add_tar(tarfile.CHRTYPE)),
        lambda f: tarred(f, add_tar(tarfile.FIFOTYPE)),
        lambda f: tarred(f, add_tar(tarfile.REGTYPE, "my-adapter/../../evil")),
        lambda f: tarred(f, add_tar(tarfile.REGTYPE, "my-adapter/adapter_config.json")),
        lambda f: zipped(f)[:-30],
        lambda f: tarred(f)[:-200],
        lambda f: b"neither",
        lambda f: b"",
        lambda f: b"PK\x03\x04" + bytes(100),
    ],
)
def test_hostile_archives_are_refused(client, house: House, folder: Path, make) -> None:
    response = post_archive(client, make(folder))
    assert response.status_code == 422, response.text
    assert response.json()["error"]["reasons"][0]["code"] == "bad_archive"
    assert str(house.root) not in response.text
    assert not (house.root.parent / "evil").exists()


def test_archive_bombs_are_too_large(client, folder: Path) -> None:
    bomb = zipped(folder, extra=lambda z: z.writestr("adapter_model.bin", bytes(400_000)))
    assert post_archive(client, bomb).status_code == 413
    many = zipped(folder, extra=lambda z: [z.writestr(f"f{i}", b"") for i in range(9)])
    assert post_archive(client, many).status_code == 413

    def add(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo("my-adapter/optimizer.pt")
        info.size = 400_000
        archive.addfile(info, io.BytesIO(bytes(400_000)))

    assert post_archive(client, tarred(folder, add)).status_code == 413


def test_a_declared_size_is_not_believed(client, folder: Path, house: House) -> None:
    """The member that means something unpacks to more than every limit allows."""
    weights = (folder / "adapter_model.safetensors").read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "adapter_config.json", "adapter_config.json")
        archive.writestr("adapter_model.safetensors", weights + bytes(400_000))
    size = len(weights) + 400_000
    data = buffer.getvalue().replace(size.to_bytes(4, "little"), (99).to_bytes(4, "little"))
    assert post_archive(client, data).status_code in (413, 422)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/b", "..", "a\\b", "x" * 300])
def test_hostile_file_names_are_refused(client, house: House, folder: Path, name: str) -> None:
    files = [*parts(folder), ("files", (name, b"x"))]
    response = client.post("/v1/adapters", data={"name": "a"}, files=files)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == "files"
    assert not (house.root.parent / "evil").exists()


def test_wrong_requests_say_what_is_wrong(client: TestClient, folder: Path) -> None:
    post = client.post
    assert post("/v1/adapters", content=b"x").status_code == 415
    assert post("/v1/adapters").status_code == 415
    assert post("/v1/adapters", files=parts(folder)).json()["error"]["param"] == "name"
    nothing = post("/v1/adapters", files=[("name", (None, b"a"))])
    assert (nothing.status_code, nothing.json()["error"]["param"]) == (400, "files")
    both = [*parts(folder), ("archive", ("x", b"PK"))]
    assert post("/v1/adapters", data={"name": "a"}, files=both).status_code == 400
    twice = [*parts(folder), *parts(folder)[:1]]
    assert post("/v1/adapters", data={"name": "a"}, files=twice).status_code == 400
    unknown = post("/v1/adapters", data={"name": "a", "colour": "red"}, files=parts(folder))
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "colour")
    taken = post("/v1/adapters", data={"name": "tiny-base"}, files=parts(folder))
    assert (taken.status_code, taken.headers["x-should-retry"]) == (409, "false")
    long = post("/v1/adapters", data={"name": "a" * 600}, files=parts(folder))
    assert long.status_code == 400


def test_large_uploads_are_cut_off(client: TestClient, folder: Path) -> None:
    big = [*parts(folder), ("files", ("big.bin", bytes(250_000)))]
    assert client.post("/v1/adapters", data={"name": "a"}, files=big).status_code == 413
    many = [*parts(folder), *(("files", (f"f{i}", b"")) for i in range(9))]
    assert client.post("/v1/adapters", data={"name": "a"}, files=many).status_code == 413


def test_a_body_of_unknown_length_is_cut_off_too(client: TestClient) -> None:
    def endless() -> Iterator[bytes]:
        yield b'--x\r\ncontent-disposition: form-data; name="files"; filename="f"\r\n\r\n'
        for _ in range(100):
            yield bytes(65536)

    headers = {"content-type": "multipart/form-data; boundary=x"}
    response = client.post("/v1/adapters", content=endless(), headers=headers)
    assert response.status_code == 413


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x\r\n",
        b"garbage",
        b'--x\r\ncontent-disposition: form-data; name="name"\r\n\r\na',
        b'--x\r\ncontent-disposition: form-data; name="\xff"\r\n\r\na\r\n--x--\r\n',
        b"--x\r\n" + b"h: " + b"v" * 10_000 + b"\r\n\r\n\r\n--x--\r\n",
        b'--x\r\ncontent-disposition: form-data; name="files"\r\n\r\na\r\n--x--\r\n',
    ],
)
def test_malformed_bodies_are_refused(client: TestClient, body: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    response = client.post("/v1/adapters", content=body, headers=headers)
    assert response.status_code == 400, response.text


def test_refusals_are_machine_readable(client: TestClient, folder: Path) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    config.update(layer_replication=[[0, 1]], surprise=1)
    files = parts(folder, adapter_config__json=json.dumps(config).encode())
    response = client.post("/v1/adapters", data={"name": "a"}, files=files)
    assert response.status_code == 422
    reasons = response.json()["error"]["reasons"]
    assert {(one["code"], one["subject"]) for one in reasons} == {
        ("unsupported_field", "layer_replication"),
        ("unknown_field", "surprise"),
    }
    pickled = parts(folder, adapter_model__safetensors=None, adapter_model__bin=b"\x80\x04")
    response = client.post("/v1/adapters", data={"name": "a"}, files=pickled)
    assert response.json()["error"]["reasons"][0]["code"] == "pickle"
    assert "safe_serialization" in response.json()["error"]["message"]
    assert client.get("/v1/adapters").json()["data"] == []


def test_pages_and_documentation(client: TestClient, folder: Path) -> None:
    for name in ("a", "b", "c"):
        client.post("/v1/adapters", data={"name": name}, files=parts(folder))
    page = client.get("/v1/adapters", params={"limit": 2}).json()
    assert [entry["name"] for entry in page["data"]] == ["a", "b"]
    assert page["has_more"]
    rest = client.get("/v1/adapters", params={"limit": 2, "after": "b"}).json()
    assert [entry["name"] for entry in rest["data"]] == ["c"]
    assert not rest["has_more"]
    document = client.get("/openapi.json").json()
    body = document["paths"]["/v1/adapters"]["post"]["requestBody"]["content"]
    assert "archive" in body["multipart/form-data"]["schema"]["properties"]


def test_a_hostile_upload_does_not_hold_up_the_others(
    tmp_path: Path, base: TinyBase, folder: Path
) -> None:
    """Expressions that never end, more than may be compiled at a time."""
    limits = AdapterLimits(compile_timeout_s=2, max_parallel_compiles=2)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"] = r"(([a-z_.0-9]+)+)+!"
    hostile = parts(folder, adapter_config__json=json.dumps(config).encode())
    house = House(tmp_path / "store", base.description, limits)
    with serving(house) as client, ThreadPoolExecutor(5) as threads:
        send = partial(client.post, "/v1/adapters", data={"name": "evil"}, files=hostile)
        pending = [threads.submit(send) for _ in range(5)]
        time.sleep(0.7)
        started = time.monotonic()
        assert client.get("/v1/adapters").json()["data"] == []
        nameless = client.post("/v1/adapters", files=parts(folder))
        assert nameless.status_code == 400
        assert time.monotonic() - started < 1
        assert not any(one.done() for one in pending)
        good = client.post("/v1/adapters", data={"name": "good"}, files=parts(folder))
        assert good.status_code == 201
        codes = {one.result().json()["error"]["reasons"][0]["code"] for one in pending}
        assert codes == {"too_expensive"}


def test_an_upload_that_announces_more_than_its_tenant_may_keep_is_not_read(
    client: TestClient, house: House
) -> None:
    house.tenant_limits = TenantLimits(max_adapter_bytes=1000)

    def never() -> Iterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    headers = {"content-type": "multipart/form-data; boundary=b", "content-length": "1049577"}
    answer = client.post("/v1/adapters", content=never(), headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "quota_exceeded"
    assert "max_adapter_bytes" in answer.json()["error"]["message"]


def test_a_name_too_many_is_refused_before_its_files_are_read(
    client: TestClient, house: House, folder: Path
) -> None:
    house.tenant_limits = TenantLimits(max_adapters=1)
    for name, status in (("one", 201), ("two", 403), ("one", 200)):
        answer = client.post("/v1/adapters", data={"name": name}, files=parts(folder))
        assert answer.status_code == status


def test_bytes_that_nobody_announced_count_while_they_arrive(
    tmp_path: Path, base: TinyBase
) -> None:
    house = House(tmp_path / "store", base.description, AdapterLimits(store_budget_bytes=3 << 20))
    head = b'--b\r\ncontent-disposition: form-data; name="files"; filename="x"\r\n\r\n'

    def body() -> Iterator[bytes]:
        yield head
        for _ in range(40):
            yield bytes(1 << 20)

    headers = {"content-type": "multipart/form-data; boundary=b"}
    with serving(house) as client:
        full = client.post("/v1/adapters", content=body(), headers=headers)
        house.tenant_limits = TenantLimits(max_adapter_bytes=2 << 20)
        over = client.post("/v1/adapters", content=body(), headers=headers)
    assert (full.status_code, over.status_code) == (507, 403)
    assert list(house.store.temporary.iterdir()) == []


def test_one_open_upload_too_many_is_to_come_back_later(
    tmp_path: Path, base: TinyBase, folder: Path
) -> None:
    limits = AdapterLimits(max_open_uploads=1)
    house = House(tmp_path / "store", base.description, limits)
    with serving(house) as client:
        assert client.portal is not None
        staging = client.portal.call(house.service.intake.open, 0)
        refused = client.post("/v1/adapters", data={"name": "a"}, files=parts(folder))
        client.portal.call(house.service.intake.discard, staging)
        taken = client.post("/v1/adapters", data={"name": "a"}, files=parts(folder))
        again = client.post("/v1/adapters", data={"name": "a"}, files=parts(folder))
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
    assert refused.json()["error"]["code"] == "too_many_uploads"
    assert (taken.status_code, again.status_code) == (201, 200)
