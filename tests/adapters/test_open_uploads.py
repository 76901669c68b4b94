import pytest

from service.adapters.open_uploads import OpenUploads
from service.errors import QuotaExceeded, TooManyUploads

MIB = 1 << 20


def test_a_tenant_has_so_many_open_and_no_more_until_one_is_over() -> None:
    uploads = OpenUploads(2)
    first, _ = uploads.open("red"), uploads.open("red")
    with pytest.raises(TooManyUploads):
        uploads.open("red")
    uploads.open("blue")
    uploads.close(first)
    uploads.open("red")


def test_what_arrives_counts_in_all_of_a_tenants_uploads_until_they_are_over() -> None:
    uploads = OpenUploads(8)
    one, two = uploads.open("red", 4 * MIB), uploads.open("red", 4 * MIB)
    other = uploads.open("blue", 4 * MIB)
    for upload in (one, two, other):
        uploads.grow(upload, 3 * MIB)
    assert uploads.num_bytes == 9 * MIB
    with pytest.raises(QuotaExceeded):
        uploads.grow(two, 1)
    uploads.close(two)
    uploads.grow(one, 2 * MIB)
    for upload in (one, other):
        uploads.close(upload)
    assert uploads.num_bytes == 0


def test_what_is_begun_anew_counts_once() -> None:
    uploads = OpenUploads(8)
    one, other = uploads.open("red", 4 * MIB), uploads.open("red", 4 * MIB)
    uploads.grow(one, 4 * MIB)
    uploads.shrink(one, 3 * MIB)
    assert uploads.num_bytes == MIB
    uploads.grow(one, 3 * MIB)
    uploads.grow(other, 2 * MIB)
    with pytest.raises(QuotaExceeded):
        uploads.grow(other, 1)
    for upload in (one, other):
        uploads.close(upload)
    assert uploads.num_bytes == 0


def test_the_disk_is_looked_at_in_the_beginning_and_now_and_then() -> None:
    uploads = OpenUploads(1)
    upload = uploads.open("red")
    assert [uploads.grow(upload, 4 * MIB) for _ in range(5)] == [True, False, False, True, False]
