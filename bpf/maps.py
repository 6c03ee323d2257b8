"""Typed access to BPF maps by file descriptor.

Keys and values are the ctypes mirrors of bpf/structs.py. Errors carry the map's name; a full map is its own error,
because what to do then is the caller's policy.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ctypes import byref, c_uint32
from itertools import islice
from typing import Generic, TypeVar

from bpf.errors import MapError, MapFull
from bpf.libbpf import MapCreateOpts, library
from bpf.structs import PolicyKey, PolicyValue

MAP_TYPE_LPM_TRIE = 11
BPF_F_NO_PREALLOC = 1
_OPEN_TRIES = 128  # descriptors at a time
_COUNT_BATCH = 16384

_Data = ctypes.Structure | ctypes._SimpleCData  # type: ignore[type-arg]
K = TypeVar("K", bound=_Data)
V = TypeVar("V", bound=_Data)


_NO_BATCHES = (-errno.EINVAL, -errno.EOPNOTSUPP, -524)  # an old kernel; a map without them; the kernel's ENOTSUPP


def _error(name: str, operation: str, number: int) -> MapError:
    kind = MapFull if number in (errno.E2BIG, errno.ENOSPC) else MapError
    return kind(name, operation, number, f"{errno.errorcode.get(number, number)} ({os.strerror(number)})")


class _NoBatches(Exception):
    """This kernel, or this kind of map, tells its entries one by one only."""


class _BucketTooLarge(Exception):
    """Room for more entries at a time is needed."""


class BpfMap(Generic[K, V]):
    """A map with one value per key. Does not own the file descriptor."""

    def __init__(self, name: str, fd: int, key: type[K], value: type[V]) -> None:
        self.name = name
        self.fd = fd
        self._key = key
        self._value = value
        self._raw_value = ctypes.create_string_buffer(ctypes.sizeof(value))
        self._library = library()

    def get(self, key: K) -> V | None:
        value = self._value()
        result = self._library.bpf_map_lookup_elem(self.fd, byref(key), byref(value))
        if result == -errno.ENOENT:
            return None
        if result < 0:
            raise _error(self.name, "lookup", -result)
        return value

    def set(self, key: K, value: V) -> None:
        result = self._library.bpf_map_update_elem(self.fd, byref(key), byref(value), 0)
        if result < 0:
            raise _error(self.name, "update", -result)

    def get_raw(self, key: bytes) -> bytes | None:
        """As `get`, but without the cost of ctypes structures."""
        result = self._library.bpf_map_lookup_elem(self.fd, key, self._raw_value)
        if result == -errno.ENOENT:
            return None
        if result < 0:
            raise _error(self.name, "lookup", -result)
        return self._raw_value.raw

    def set_raw(self, key: bytes, value: bytes) -> None:
        result = self._library.bpf_map_update_elem(self.fd, key, value, 0)
        if result < 0:
            raise _error(self.name, "update", -result)

    def delete(self, key: K) -> bool:
        """False if it was not there."""
        result = self._library.bpf_map_delete_elem(self.fd, byref(key))
        if result == -errno.ENOENT:
            return False
        if result < 0:
            raise _error(self.name, "delete", -result)
        return True

    def set_all(self, entries: Mapping[bytes, bytes]) -> None:
        """Many at once: with one system call, if the kernel can. Of a map of maps each single one waits for RCU."""
        count = c_uint32(len(entries))
        keys, values = b"".join(entries), b"".join(entries.values())
        result = self._library.bpf_map_update_batch(self.fd, keys, values, byref(count), None) if entries else 0
        if result in _NO_BATCHES:
            each = (self._library.bpf_map_update_elem(self.fd, *entry, 0) for entry in entries.items())
            result = next((failed for failed in each if failed < 0), 0)
        if result < 0:
            raise _error(self.name, "update", -result)

    def delete_all(self, keys: Sequence[bytes]) -> None:
        """Many at once. Those that are not there are left out."""
        count = c_uint32(len(keys))
        result = self._library.bpf_map_delete_batch(self.fd, b"".join(keys), byref(count), None) if keys else 0
        if result in (*_NO_BATCHES, -errno.ENOENT):
            each = (self._library.bpf_map_delete_elem(self.fd, key) for key in keys)
            result = next((failed for failed in each if failed < 0 and failed != -errno.ENOENT), 0)
        if result < 0:
            raise _error(self.name, "delete", -result)

    def delete_if_present(self, key: K) -> None:
        """For maps that answer EINVAL where there is nothing: sockmaps."""
        self._library.bpf_map_delete_elem(self.fd, byref(key))

    def count(self) -> int:
        """How many entries there are; of a hash map, whose kernel side counts none, by looking at all of them."""
        size = _COUNT_BATCH
        while True:
            counted = self._count_in_batches(size)
            if counted is not None:
                return counted
            size *= 2  # a bucket did not fit

    def _count_in_batches(self, size: int) -> int | None:
        try:
            return sum(count for count, _, _ in self._batches(size))
        except _NoBatches:
            return sum(1 for _ in self.keys())
        except _BucketTooLarge:
            return None

    def raw_items(self) -> Iterator[tuple[bytes, bytes]]:
        """Key and value of every entry, in few system calls. While the kernel changes them some may be told twice."""
        key_size, value_size, size = ctypes.sizeof(self._key), ctypes.sizeof(self._value), _COUNT_BATCH
        while True:
            try:
                for count, keys, values in self._batches(size):
                    all_keys, all_values = keys.raw, values.raw
                    for place in range(count):
                        key = all_keys[place * key_size : (place + 1) * key_size]
                        yield key, all_values[place * value_size : (place + 1) * value_size]
                return
            except _NoBatches:
                yield from ((bytes(key), bytes(value)) for key, value in self.items())
                return
            except _BucketTooLarge:
                size *= 2

    def _batches(self, size: int) -> Iterator[tuple[int, ctypes.Array[ctypes.c_char], ctypes.Array[ctypes.c_char]]]:
        """(how many, keys, values) of up to `size` entries at a time, in the same two buffers each time."""
        keys = ctypes.create_string_buffer(size * ctypes.sizeof(self._key))
        values = ctypes.create_string_buffer(size * ctypes.sizeof(self._value))
        place, first = c_uint32(), True
        while True:
            count = c_uint32(size)
            arguments = (None if first else byref(place), byref(place), keys, values, byref(count), None)
            result = self._library.bpf_map_lookup_batch(self.fd, *arguments)
            if result in _NO_BATCHES:
                raise _NoBatches
            if result == -errno.ENOSPC:
                raise _BucketTooLarge
            if result < 0 and result != -errno.ENOENT:
                raise _error(self.name, "lookup", -result)
            yield count.value, keys, values
            first = False
            if result == -errno.ENOENT:
                return

    def keys(self) -> Iterator[K]:
        """Every key. Of a map that the kernel changes meanwhile some may be missed or told twice."""
        previous: K | None = None
        while True:
            key = self._key()
            result = self._library.bpf_map_get_next_key(self.fd, byref(previous) if previous else None, byref(key))
            if result == -errno.ENOENT:
                return
            if result < 0:
                raise _error(self.name, "next key", -result)
            yield key
            previous = key

    def items(self) -> Iterator[tuple[K, V]]:
        for key in list(self.keys()):
            value = self.get(key)
            if value is not None:
                yield key, value


class PerCpuArray(Generic[V]):
    """A per-CPU array: each entry is one value per possible CPU, each padded to 8 bytes."""

    def __init__(self, name: str, fd: int, value: type[V]) -> None:
        self.name = name
        self.fd = fd
        self._value = value
        self._library = library()
        self._cpus: int = self._library.libbpf_num_possible_cpus()
        self._stride = -(-ctypes.sizeof(value) // 8) * 8

    def get(self, index: int) -> list[V]:
        buffer = ctypes.create_string_buffer(self._stride * self._cpus)
        result = self._library.bpf_map_lookup_elem(self.fd, byref(c_uint32(index)), buffer)
        if result < 0:
            raise _error(self.name, "lookup", -result)
        values: list[V] = []
        for cpu in range(self._cpus):
            values.append(self._value.from_buffer_copy(buffer, cpu * self._stride))  # type: ignore[arg-type]
        return values


class PolicyMaps:
    """The map of maps `policy`: policy id → trie of entries."""

    name = "policy"

    def __init__(self, fd: int, max_entries: int) -> None:
        self.fd = fd
        self._max_entries = max_entries
        self._outer = BpfMap(self.name, fd, c_uint32, c_uint32)  # userspace reads the inner map's id

    def ids(self) -> list[int]:
        return [key.value for key in self._outer.keys()]  # noqa: SIM118 - not a dict

    def read(self, policy_id: int) -> dict[bytes, bytes]:
        """Key bytes → value bytes of one policy."""
        inner_id = self._outer.get(c_uint32(policy_id))
        if inner_id is None:
            return {}
        fd = library().bpf_map_get_fd_by_id(inner_id.value)
        if fd < 0:
            raise _error(self.name, f"open policy {policy_id}", -fd)
        try:
            trie = BpfMap(self.name, fd, PolicyKey, PolicyValue)
            return {bytes(key): bytes(value) for key, value in trie.items()}
        finally:
            os.close(fd)

    def write(self, policies: Mapping[int, Mapping[bytes, bytes]]) -> None:
        """Fill a new trie for each, then put them in place. A row that does not fit leaves its policy as it was."""
        waiting = iter(policies.items())
        while part := dict(islice(waiting, _OPEN_TRIES)):
            with contextlib.ExitStack() as opened:
                made = {}
                for policy_id, rows in part.items():
                    fd = self._fill(rows)
                    opened.callback(os.close, fd)
                    made[bytes(c_uint32(policy_id))] = bytes(c_uint32(fd))
                self._outer.set_all(made)  # userspace writes the inner maps' descriptors

    def _fill(self, rows: Mapping[bytes, bytes]) -> int:
        """The descriptor of a new trie with these rows."""
        options = MapCreateOpts(sz=ctypes.sizeof(MapCreateOpts), map_flags=BPF_F_NO_PREALLOC)
        size = max(len(rows), self._max_entries)
        sizes = (ctypes.sizeof(PolicyKey), ctypes.sizeof(PolicyValue), size)
        fd = library().bpf_map_create(MAP_TYPE_LPM_TRIE, b"policy_trie", *sizes, byref(options))
        if fd < 0:
            raise _error(self.name, "create", -fd)
        try:
            BpfMap(self.name, fd, PolicyKey, PolicyValue).set_all(rows)
        except BaseException:
            os.close(fd)
            raise
        return int(fd)

    def delete(self, policy_ids: Iterable[int]) -> None:
        self._outer.delete_all([bytes(c_uint32(number)) for number in policy_ids])
