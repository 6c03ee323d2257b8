"""The state file: what endpoints have learnt, kept while the agent is away.

Times are those of CLOCK_BOOTTIME, so they mean something only until the machine is booted anew; then the kernel's
openings are gone as well. The file is written whole and put in place by a rename. One that makes no sense is put aside
and told: what it says is not believed in part.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Annotated, Final

import msgspec

from proxy.names.records import Lease
from proxy.names.store import Known

log = logging.getLogger(__name__)

FILE: Final = "names"
MODE: Final = 0o600
_VERSION: Final = 1
_MAX_BYTES: Final = 1 << 30
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

_Seconds = Annotated[int, msgspec.Meta(ge=0, le=1 << 33)]


class _Address(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """`address` is packed; in the file it is base64."""

    address: Annotated[bytes, msgspec.Meta(min_length=4, max_length=16)]
    expires: _Seconds
    ttl: _Seconds


class _Name(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    endpoint: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    name: Annotated[str, msgspec.Meta(max_length=1024)]
    addresses: list[_Address]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    boot: str
    names: list[_Name]


class CorruptError(Exception):
    """The file is no state file."""


def boot_id() -> str:
    """Another one after every boot."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def save(path: Path, known: list[Known], boot: str) -> None:
    """Raises OSError. Blocks: off the event loop, and one at a time."""
    names: dict[tuple[int, str], list[_Address]] = {}
    for item in known:
        told = _Address(item.address, max(0, item.lease.expires), item.lease.ttl)
        names.setdefault((item.endpoint, item.name), []).append(told)
    file = _File(_VERSION, boot, [_Name(*key, addresses) for key, addresses in names.items()])
    _write(path, msgspec.json.encode(file))


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load(path: Path, boot: str) -> list[tuple[int, str, bytes, Lease]]:
    """(endpoint, name, address, lease) of what was saved since the machine was booted. Never raises: nothing is what is
    known if there is no file, or none that can be read."""
    try:
        return _read(path, boot)
    except FileNotFoundError:
        return []
    except OSError as error:
        log.warning("what DNS names had opened is not known: %s cannot be read: %s", path, error.strerror or error)
    except CorruptError as error:
        aside = path.with_name(f"{path.name}.corrupt")
        log.warning("what DNS names had opened is not known: %s is no state file, see %s: %s", path, aside, error)
        with contextlib.suppress(OSError):
            path.replace(aside)
    return []


def _read(path: Path, boot: str) -> list[tuple[int, str, bytes, Lease]]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(fd, "rb") as opened:
        data = opened.read(_MAX_BYTES)
    try:
        file = msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptError(str(error)) from None
    if file.version != _VERSION:
        raise CorruptError(f"version {file.version} is not known")
    if not boot or file.boot != boot:
        log.info("DNS names of before the machine was booted are forgotten")
        return []
    found = [
        (item.endpoint, item.name, told.address, Lease(told.expires, told.ttl))
        for item in file.names
        for told in item.addresses
    ]
    if any(len(address) not in (4, 16) for _, _, address, _ in found):
        raise CorruptError("an address has neither 4 nor 16 bytes")
    return found
