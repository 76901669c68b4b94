"""Receives a multipart upload straight into a staging folder; nothing is held in memory.

Parsing and disk writes run in a thread, about a mebibyte at a time.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from fastapi import Request
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from service.adapters.limits import AdapterLimits
from service.adapters.staging import Staging
from service.errors import InvalidRequest, UnsupportedUpload, UploadTooLarge
from service.handlers.adapters import AdapterService
from service.tenancy import qualified

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_BATCH_BYTES = 1 << 20
_MAX_FIELD_BYTES = 512
_MAX_OVERHEAD_BYTES = 1 << 20
"""Boundaries, part headers and whatever surrounds the parts."""
_PLAIN_ENCODINGS = (b"", b"7bit", b"8bit", b"binary")


async def receive_upload(
    request: Request, adapters: AdapterService, tenant: str
) -> tuple[str, Staging]:
    """The field `name`, one for the tenant, and everything else on disk; the caller owns the
    staging folder."""
    boundary = _boundary(request.headers.get("content-type", ""))
    limit = adapters.limits.max_upload_bytes + _MAX_OVERHEAD_BYTES
    expected = _content_length(request)
    if expected > limit:
        raise UploadTooLarge(f"More than {adapters.limits.max_upload_bytes} bytes.")
    adapters.quotas.check_announced(tenant, max(0, expected - _MAX_OVERHEAD_BYTES))
    staging = await adapters.intake.open(expected, tenant)

    def check_name(name: str) -> None:
        adapters.check_name(name, tenant)
        adapters.quotas.check_name(qualified(tenant, name))

    try:
        form = UploadForm(boundary, staging, adapters.limits, check_name)
        await _pump(request, adapters, staging, form, limit)
        return form.name(), staging
    except BaseException:
        await adapters.intake.discard(staging)
        raise


async def _pump(
    request: Request, adapters: AdapterService, staging: Staging, form: "UploadForm", limit: int
) -> None:
    batch = bytearray()
    num_bytes = 0
    async for chunk in request.stream():
        num_bytes += len(chunk)
        if num_bytes > limit:
            raise UploadTooLarge(f"More than {adapters.limits.max_upload_bytes} bytes.")
        batch += chunk
        if len(batch) >= _BATCH_BYTES:
            await adapters.intake.receive(staging, len(batch), _feeding(form, bytes(batch)))
            batch.clear()
    await adapters.intake.receive(staging, len(batch), _feeding(form, bytes(batch)))


def _feeding(form: "UploadForm", data: bytes) -> Callable[[], None]:
    return lambda: form.feed(data)


class UploadForm:
    """Turns a byte stream into parts: `name` in memory, `files` and `archive` in the staging."""

    def __init__(
        self,
        boundary: bytes,
        staging: Staging,
        limits: AdapterLimits,
        check_name: Callable[[str], None],
    ) -> None:
        self._staging = staging
        self._check_name = check_name
        self._max_parts = limits.max_files + 2
        self._num_parts = 0
        self._header: tuple[bytes, bytes] = (b"", b"")
        self._headers: dict[bytes, bytes] = {}
        self._name: bytearray | None = None
        self._is_name = False
        self._is_complete = False
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }
        self._parser = MultipartParser(boundary, callbacks)

    def feed(self, data: bytes) -> None:
        """Blocking: writes to disk."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise InvalidRequest("The multipart body is malformed.") from error

    def name(self) -> str:
        """The field `name`, once everything has arrived."""
        if not self._is_complete:
            raise InvalidRequest("The multipart body ends too early.")
        if self._name is None:
            raise InvalidRequest("The field `name` is missing.", "name")
        return _text(bytes(self._name), "name")

    def _on_part_begin(self) -> None:
        self._num_parts += 1
        if self._num_parts > self._max_parts:
            raise UploadTooLarge(f"More than {self._max_parts} parts.")
        self._headers = {}
        self._header = (b"", b"")
        self._is_name = False

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        field, value = self._header
        self._header = (field + data[start:end], value)

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        field, value = self._header
        self._header = (field, value + data[start:end])

    def _on_header_end(self) -> None:
        field, value = self._header
        self._headers[field.lower()] = value
        self._header = (b"", b"")

    def _on_headers_finished(self) -> None:
        encoding = self._headers.get(b"content-transfer-encoding", b"").strip().lower()
        if encoding not in _PLAIN_ENCODINGS:
            raise InvalidRequest("Parts must be sent as they are, without a transfer encoding.")
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        field = _text(options.get(b"name", b""), None)
        match field:
            case "name":
                self._begin_name()
            case "files":
                self._staging.begin_file(_text(options.get(b"filename", b""), "files"))
            case "archive":
                self._staging.begin_archive()
            case _:
                message = f"Unknown field {field[:100]!r}; send `name` and `files` or `archive`."
                raise InvalidRequest(message, field[:100] or None)

    def _begin_name(self) -> None:
        if self._name is not None:
            raise InvalidRequest("The field `name` is sent twice.", "name")
        self._name = bytearray()
        self._is_name = True

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_name:
            self._staging.write(memoryview(data)[start:end])
            return
        name = cast(bytearray, self._name)
        name += data[start:end]
        if len(name) > _MAX_FIELD_BYTES:
            raise InvalidRequest("The field `name` is too long.", "name")

    def _on_part_end(self) -> None:
        self._staging.end()
        if self._is_name and self._name is not None:
            # At once, so that a wrong name does not cost its sender the whole upload.
            self._check_name(_text(bytes(self._name), "name"))

    def _on_end(self) -> None:
        self._is_complete = True


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise UnsupportedUpload(
            "Send the adapter as multipart/form-data, or its source as application/json."
        )
    return boundary


def _content_length(request: Request) -> int:
    """0 when it is not known; the limits are checked again while bytes arrive."""
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else 0


def _text(data: bytes, param: str | None) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("Names must be valid UTF-8.", param) from None
