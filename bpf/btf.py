"""Reads struct layouts out of a compiled object's BTF, without the kernel or libbpf.

Format: Documentation/bpf/btf.rst; ELF sections as in elf(5). Only what a comparison needs: named structs, their size
and the byte offset of each member.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bpf.errors import LoadError

_KIND_STRUCT: Final = 4
_BTF_MAGIC: Final = 0xEB9F
# Bytes behind the 12-byte btf_type: fixed, and per item of vlen.
_TRAILER: Final[dict[int, tuple[int, int]]] = {
    1: (4, 0),  # INT
    2: (0, 0),  # PTR
    3: (12, 0),  # ARRAY
    4: (0, 12),  # STRUCT
    5: (0, 12),  # UNION
    6: (0, 8),  # ENUM
    7: (0, 0),  # FWD
    8: (0, 0),  # TYPEDEF
    9: (0, 0),  # VOLATILE
    10: (0, 0),  # CONST
    11: (0, 0),  # RESTRICT
    12: (0, 0),  # FUNC
    13: (0, 8),  # FUNC_PROTO
    14: (4, 0),  # VAR
    15: (0, 12),  # DATASEC
    16: (0, 0),  # FLOAT
    17: (4, 0),  # DECL_TAG
    18: (0, 0),  # TYPE_TAG
    19: (0, 12),  # ENUM64
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Size in bytes, and the offset of each member."""

    size: int
    members: dict[str, int]


def elf_section(image: bytes, wanted: str) -> bytes:
    """The contents of a section of a little-endian ELF64 file."""
    if image[:6] != b"\x7fELF\x02\x01":
        raise LoadError("not a little-endian ELF64 file")
    (table,) = struct.unpack_from("<Q", image, 0x28)
    size, count, names_index = struct.unpack_from("<HHH", image, 0x3A)

    def header(index: int) -> tuple[int, int, int]:
        name, _, _, _, offset, length = struct.unpack_from("<IIQQQQ", image, table + index * size)
        return name, offset, length

    _, names_offset, names_length = header(names_index)
    names = image[names_offset : names_offset + names_length]
    for index in range(count):
        name, offset, length = header(index)
        if names[name : names.index(b"\0", name)].decode() == wanted:
            return image[offset : offset + length]
    raise LoadError(f"the object has no section {wanted}")


def struct_layouts(object_path: Path) -> dict[str, Layout]:
    """Every named struct of the object."""
    data = elf_section(object_path.read_bytes(), ".BTF")
    magic, _, _, header, types_at, types_length, strings_at, strings_length = struct.unpack_from("<HBBIIIII", data)
    if magic != _BTF_MAGIC:
        raise LoadError(f"{object_path}: not BTF")
    types = data[header + types_at : header + types_at + types_length]
    strings = data[header + strings_at : header + strings_at + strings_length]

    def text(offset: int) -> str:
        return strings[offset : strings.index(b"\0", offset)].decode()

    layouts: dict[str, Layout] = {}
    at = 0
    while at < len(types):
        name, info, size = struct.unpack_from("<III", types, at)
        kind, items = info >> 24 & 0x1F, info & 0xFFFF
        fixed, each = _TRAILER[kind]
        if kind == _KIND_STRUCT and name:
            members = {}
            for item in range(items):
                member, _, bits = struct.unpack_from("<III", types, at + 12 + item * 12)
                members[text(member)] = (bits & 0xFFFFFF if info >> 31 else bits) // 8
            layouts[text(name)] = Layout(size, members)
        at += 12 + fixed + items * each
    return layouts
