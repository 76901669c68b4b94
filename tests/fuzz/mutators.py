"""Makes wrong inputs of right ones. All is drawn from the given generator: a seed is a case."""

import copy
import gzip
import io
import json
import random
import struct
import tarfile
import zipfile
from typing import Any

INTERESTING: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.5, -0.0,
    1e308, 1e-320, "", "\x00", "\ud800", "\u202e", "é" * 300, "a" * 5000, "../../x", "/etc/passwd",
    "q_proj", "all-linear", ".*", "(a+)+$", "(", [], {}, [[]], [None], ["q_proj"], {"a": {}},
    {"": 1}, [10**18], [0] * 50_000, "LORA", "__class__",
)  # fmt: skip
LITERALS = (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"1" * 5000, b"[" * 2000, b'{"a":' * 500)
NUMBERS = (0, 1, 7, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)


def mutated_bytes(draw: random.Random, data: bytes) -> bytes:
    raw = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        at = draw.randrange(len(raw) + 1)
        match draw.randrange(7):
            case 0 if at < len(raw):
                raw[at] ^= 1 << draw.randrange(8)
            case 1:
                raw[at:at] = draw.randbytes(draw.choice((1, 2, 8, 64)))
            case 2:
                del raw[at : at + draw.choice((1, 2, 8, 64))]
            case 3:
                del raw[at:]
            case 4:
                size = draw.choice((1, 2, 4, 8))
                number = draw.choice(NUMBERS) % (1 << 8 * size)
                raw[at : at + size] = number.to_bytes(size, draw.choice(("little", "big")))
            case 5:
                raw[at:at] = raw[at : at + draw.choice((4, 16, 256))]
            case _:
                raw[at:at] = draw.choice(LITERALS)
    return bytes(raw)


def mutated_json(draw: random.Random, value: Any) -> bytes:
    """Mostly still JSON, with something else somewhere inside."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        value = _changed(draw, value)
    data = json.dumps(value).encode()
    match draw.randrange(10):
        case 0:
            return data.replace(b":", b": " + draw.choice(LITERALS) + b", ", 1)
        case 1:
            return data[:-1] + b", " + data[1:]  # every key twice
        case 2:
            return draw.choice((b"\xef\xbb\xbf", b"\xff\xfe", b" " * 1000)) + data
        case 3:
            return data.decode().encode("utf-16")
        case 4:
            return mutated_bytes(draw, data)
    return data


def _changed(draw: random.Random, value: Any) -> Any:
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(list(value))
        match draw.randrange(8):
            case 0:
                del value[key]
            case 1:
                value[str(interesting(draw))] = value[key]
            case 2:
                value[key] = nested(draw)
            case 3:
                value[key] = [value[key]] * draw.choice((2, 20))
            case _:
                value[key] = _changed(draw, value[key])
        return value
    if isinstance(value, list) and value and draw.random() < 0.7:
        at = draw.randrange(len(value))
        value[at] = _changed(draw, value[at])
        return value
    return interesting(draw)


def interesting(draw: random.Random) -> Any:
    return copy.deepcopy(draw.choice(INTERESTING))


def nested(draw: random.Random) -> Any:
    value: Any = interesting(draw)
    for _ in range(draw.choice((3, 50, 400))):
        value = [value] if draw.random() < 0.5 else {"a": value}
    return value


def safetensors(header: Any, data: bytes) -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


NAMES = (
    "adapter_config.json", "adapter_model.safetensors", "./adapter_config.json", "a/README.md",
    "../evil", "../../../../tmp/evil", "/etc/evil", "a/../../evil", "a\\..\\evil", "C:\\evil", "",
    ".", "..", "a/", "a//b", "x" * 300, "\x00evil", "ev\x00il", "é", "\u202eevil", "CON",
    "adapter_config.json/", "adapter_config.json\x00.txt", "ADAPTER_CONFIG.JSON",
    "adapter_model.bin", "chat_template.jinja", "tokenizer_config.json", "a/b/c/d",
)  # fmt: skip


def zip_archive(draw: random.Random, contents: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", draw.choice((0, 8, 8, 12, 14))) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
        for _ in range(draw.choice((0, 1, 2, 100))):
            archive.writestr(*_hostile_zip_member(draw))
    return packed.getvalue()


def _hostile_zip_member(draw: random.Random) -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo("x")
    info.filename = draw.choice(NAMES) or "x"
    kind = draw.choice((0, 0, 0o12, 0o04, 0o02, 0o06, 0o01, 0o14, 0o10))
    info.external_attr = (kind << 12 | 0o777) << 16
    info.compress_type = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    info.create_system = draw.choice((0, 3, 255))
    return info, draw.choice((b"", b"/etc/passwd", b"PK\x03\x04", bytes(1 << 20)))


def tar_archive(draw: random.Random, contents: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    form = draw.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    with tarfile.open(fileobj=packed, mode="w", format=form) as archive:
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for _ in range(draw.choice((0, 1, 2, 100))):
            try:
                _add_hostile_member(draw, archive)
            except ValueError:  # a name that this form cannot hold
                continue
    plain = packed.getvalue()
    if draw.random() < 0.3:
        plain = mutated_bytes(draw, plain)
    return gzip.compress(plain, draw.choice((0, 1, 9)), mtime=0)


def _add_hostile_member(draw: random.Random, archive: tarfile.TarFile) -> None:
    info = tarfile.TarInfo((draw.choice(NAMES) or "x").replace("\x00", "_"))
    info.type = draw.choice(
        (b"0", b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"S", b"L", b"K", b"x", b"g", b"V")
    )
    info.linkname = draw.choice(("", "/etc/passwd", "../..", "adapter_config.json"))
    info.devmajor, info.devminor, info.mode = 1, 3, 0o7777
    info.pax_headers = draw.choice(
        (
            {},
            {"path": "../evil"},
            {"size": "99999999999999"},
            {"GNU.sparse.map": "0,99999999999", "GNU.sparse.size": "99999999999"},
            {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" * 12},
            {"mtime": "nan"},
            {"uid": "x"},
        )
    )
    data = draw.choice((b"", b"x" * 700, bytes(1 << 20)))
    info.size = len(data) if info.isreg() else 0
    archive.addfile(info, io.BytesIO(data))
