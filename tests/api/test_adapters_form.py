"""The multipart form, cut into pieces of any size."""

from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from service.adapters.limits import AdapterLimits
from service.adapters.staging import Staging
from service.api.uploads import UploadForm
from service.errors import RepertoireError, UploadTooLarge

FILES = {"a.bin": b"\r\n--x\r\n--", "b": b"", "c.json": bytes(range(256)) * 3}


def body() -> bytes:
    files = [("files", (name, data)) for name, data in FILES.items()]
    headers = {"content-type": "multipart/form-data; boundary=x--y"}
    request = httpx.Request("POST", "http://h", data={"name": "n"}, files=files, headers=headers)
    return request.read()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cuts=st.lists(st.integers(0, 2000), max_size=30))
def test_pieces_do_not_matter(tmp_path: Path, cuts: list[int]) -> None:
    whole = body()
    staging = Staging(tmp_path, AdapterLimits())
    checked: list[str] = []
    form = UploadForm(b"x--y", staging, AdapterLimits(), checked.append)
    edges = sorted({0, len(whole), *(cut % len(whole) for cut in cuts)})
    for begin, end in pairwise(edges):
        form.feed(whole[begin:end])
    assert form.name() == "n"
    assert checked == ["n"]
    assert {path.name: path.read_bytes() for path in staging.files.iterdir()} == FILES
    staging.discard()


@given(data=st.binary(max_size=400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_noise_is_an_error_of_ours_or_nothing(tmp_path: Path, data: bytes) -> None:
    staging = Staging(tmp_path, AdapterLimits())
    form = UploadForm(b"x", staging, AdapterLimits(), lambda name: None)
    try:
        form.feed(b"--x\r\ncontent-disposition: form-data; name=" + data + b"\r\n--x--\r\n")
        form.name()
    except RepertoireError:
        pass
    finally:
        staging.discard()
    assert list(tmp_path.iterdir()) == []


def test_parts_are_counted(tmp_path: Path) -> None:
    staging = Staging(tmp_path, AdapterLimits())
    form = UploadForm(b"x", staging, AdapterLimits(max_files=3), lambda name: None)
    part = b'--x\r\ncontent-disposition: form-data; name="files"; filename="%d"\r\n\r\n\r\n'
    body = b"".join(part % number for number in range(9))
    with pytest.raises(UploadTooLarge):
        form.feed(body)
