"""Compiles bpf/penstock.bpf.c with clang: `python -m bpf.build [--quiet | --force]`.

The object carries a stamp of what it was made from (sources, compiler, flags), so an unchanged tree is not compiled
again and a stale object is never loaded.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from bpf.btf import elf_section
from bpf.errors import BuildError, LoadError

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "penstock.bpf.c"
OBJECT = HERE / "penstock.bpf.o"
STAMP_SECTION = "penstock.stamp"

# v3: 32-bit jumps and atomics, known to every kernel that has what the programs need anyway.
FLAGS = ("-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Werror")


def sources() -> list[Path]:
    return [SOURCE, *sorted((HERE / "include").glob("*.h")), *sorted((HERE / "lib").glob("*.h"))]


def find_clang() -> str:
    for name in (os.environ.get("CLANG", ""), "clang", "clang-19", "clang-18", "clang-16", "clang-15", "clang-14"):
        path = shutil.which(name) if name else None
        if path:
            return path
    raise BuildError("clang is not installed (Debian package: clang)")


def compiler_flags() -> tuple[str, ...]:
    # The kernel's UAPI headers include <asm/...>, which Debian keeps in the architecture's own folder.
    return (*FLAGS, f"-I/usr/include/{platform.machine()}-linux-gnu")


def source_stamp() -> str:
    """Changes whenever one of the sources does; needs no compiler."""
    digest = hashlib.sha256()
    for path in sources():
        digest.update(path.relative_to(HERE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(" ".join(compiler_flags()).encode())
    return digest.hexdigest()


def compiler_version(clang: str) -> str:
    result = subprocess.run([clang, "--version"], capture_output=True, text=True, check=False)
    if result.returncode:
        raise BuildError(f"{clang} --version: {result.stderr.strip()}")
    return result.stdout.splitlines()[0]


def object_stamp() -> tuple[str, str]:
    """Source stamp and compiler of the object that is there; empty if there is none."""
    try:
        text = elf_section(OBJECT.read_bytes(), STAMP_SECTION).rstrip(b"\0").decode()
    except (FileNotFoundError, LoadError):
        return "", ""
    source, _, compiler = text.partition(" ")
    return source, compiler


def is_current() -> bool:
    """Whether the object is there and was made from these sources."""
    return object_stamp()[0] == source_stamp()


def build(force: bool = False) -> bool:
    """Compile if needed. True if it did."""
    if shutil.which("clang") is None and not force and is_current():
        return False  # made elsewhere; nothing to compile with, and no need to
    clang = find_clang()
    stamp = (source_stamp(), compiler_version(clang))
    if not force and object_stamp() == stamp:
        return False
    # Other processes may be reading the old object: it is replaced whole.
    made = OBJECT.with_suffix(f".{os.getpid()}.tmp")
    definition = '-DSTAMP="{} {}"'.format(*stamp)
    command = [clang, *compiler_flags(), definition, "-c", str(SOURCE), "-o", str(made)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        made.unlink(missing_ok=True)
        raise BuildError(f"{' '.join(command)}\n{result.stderr.strip()}")
    _strip(made)
    made.replace(OBJECT)
    return True


def _strip(path: Path) -> None:
    """DWARF is dead weight once BTF is made from it."""
    strip = shutil.which("llvm-strip") or shutil.which("llvm-strip-14")
    if strip:
        subprocess.run([strip, "-g", str(path)], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bpf.build", description="Compile the eBPF object.")
    parser.add_argument("--force", action="store_true", help="compile even if nothing changed")
    parser.add_argument("--quiet", action="store_true", help="say nothing when there is nothing to do")
    arguments = parser.parse_args()
    try:
        compiled = build(force=arguments.force)
    except BuildError as error:
        print(f"bpf.build: {error}", file=sys.stderr)
        return 1
    if compiled:
        print(f"setup: compiled bpf/{OBJECT.name}")
    elif not arguments.quiet:
        print(f"bpf/{OBJECT.name} is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
