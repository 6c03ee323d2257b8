"""Sockets for datagrams whose addresses are not the node's: questions of pods come in, answers go out.

Sources: ip(7) IP_TRANSPARENT, IP_RECVORIGDSTADDR, IP_PKTINFO; raw(7); ipv6(7); socket(7) SO_MARK, SO_ATTACH_FILTER.
Answers leave through a raw socket: it can have the server's address and port as its source without binding to them, so
a DNS server of the node on the same address and port is not in the way.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from proxy.worker import bursts
from proxy.worker.bursts import Burst
from proxy.worker.transparent import transparent_socket

IP_RECVORIGDSTADDR: Final = 20
IP_PKTINFO: Final = 8
IP_MTU_DISCOVER: Final = 10
IPV6_RECVORIGDSTADDR: Final = 74
IPV6_MTU_DISCOVER: Final = 23
IPV6_CHECKSUM: Final = 7
_PMTUDISC_DONT: Final = 0
_SO_ATTACH_FILTER: Final = 26
_SO_RCVBUFFORCE: Final = 33
_UDP_HEADER: Final = struct.Struct("!HHHH")
_UDP_CHECKSUM_AT: Final = 6
_TRUNCATED: Final = int(socket.MSG_TRUNC)

MAX_QUESTION: Final = 4096
"""Bytes of one datagram from a client. A question has hundreds."""

CONTROL_BYTES: Final = 128
_RECEIVE_BUFFER: Final = 4 << 20
"""Bytes of questions that wait while the worker is busy."""

LOOPBACK: Final = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}

Address = tuple[str, int]


def open_receiver(family: socket.AddressFamily) -> socket.socket:
    """Takes the datagrams that the programs in the kernel hand over; bound to loopback: reached by nothing else."""
    sock = transparent_socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVORIGDSTADDR, 1)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
    sock.bind((LOOPBACK[family], 0))
    return sock


def connect(client: str, server: Address) -> socket.socket:
    """A socket from the client's address, with a port of the kernel's choice, to the server. Raises OSError."""
    sock = transparent_socket(socket.AF_INET6 if ":" in client else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.bind((client, 0))
        sock.connect(server)
    except OSError:
        sock.close()
        raise
    return sock


class Receiver:
    """Reads what `open_receiver` gets."""

    def __init__(self, sock: socket.socket) -> None:
        self.family = int(sock.family)
        self._receive = sock.recvmsg
        self.fileno = sock.fileno

    def read(self) -> tuple[bytes, Address, bytes] | None:
        """A datagram: (data, client, where it was sent to, as for `origin`). The last is empty if the data is cut off.
        None: there is none.
        """
        try:
            data, control, flags, client = self._receive(MAX_QUESTION, CONTROL_BYTES)
        except OSError:
            return None
        return data, client[:2], control[0][2] if control and not flags & _TRUNCATED else b""


class Sender:
    """Sends datagrams of one family from addresses and ports of others."""

    def __init__(self, family: socket.AddressFamily) -> None:
        self._socket = transparent_socket(family, socket.SOCK_RAW, socket.IPPROTO_UDP)
        # A raw socket gets a copy of every datagram of the node: of none if it is bound to where none goes to, and what
        # goes there all the same a filter of one instruction, `return 0`, drops.
        self._socket.bind((LOOPBACK[family], 0))
        _take_nothing(self._socket)
        if family == socket.AF_INET6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, IPV6_CHECKSUM, _UDP_CHECKSUM_AT)
            self._socket.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, _PMTUDISC_DONT)
        else:
            self._socket.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, _PMTUDISC_DONT)
        self._burst = Burst(len(_name(LOOPBACK[family])), len(_control(LOOPBACK[family])))

    def send_all(self, datagrams: Sequence[tuple[Address, Address, bytes]]) -> int:
        """(source, destination, data) of each. Says how many the kernel did not take."""
        if len(datagrams) < bursts.FEW:
            return sum(not self.send(*datagram) for datagram in datagrams)
        refused = slot = 0
        burst, fd = self._burst, self._socket.fileno()
        for source, destination, data in datagrams:
            size = _UDP_HEADER.size + len(data)
            if size > bursts.MAX_BYTES:
                refused += not self.send(source, destination, data)
                continue
            header = _UDP_HEADER.pack(source[1], destination[1], size, 0)
            burst.put(slot, header + data, _envelope(source[0], destination[0]))
            slot += 1
            if slot == bursts.MOST:
                refused += len(burst.send(fd, slot))
                slot = 0
        return refused + len(burst.send(fd, slot))

    def send(self, source: Address, destination: Address, data: bytes) -> bool:
        """False if the kernel did not take it: as with any datagram, it is lost then."""
        header = _UDP_HEADER.pack(source[1], destination[1], _UDP_HEADER.size + len(data), 0)
        try:
            # The port of a raw socket's destination is the protocol.
            self._socket.sendmsg((header, data), (_from(source[0]),), 0, (destination[0], 0))
        except OSError:
            return False
        return True


@lru_cache(maxsize=4096)
def _from(source: str) -> tuple[int, int, bytes]:
    """The control message that gives a datagram its source address."""
    packed = ip_address(source).packed
    if len(packed) == 16:
        return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, packed + bytes(4)
    return socket.IPPROTO_IP, IP_PKTINFO, bytes(4) + packed + bytes(4)


def _control(source: str) -> bytes:
    """The same as the kernel reads it."""
    return bursts.control_data(*_from(source))


@lru_cache(maxsize=4096)
def _envelope(source: str, destination: str) -> bytes:
    return bursts.envelope(_name(destination), _control(source))


def _name(destination: str) -> bytes:
    """The `sockaddr` of a raw socket's destination."""
    packed = ip_address(destination).packed
    if len(packed) == 16:
        return struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, packed, 0)
    return struct.pack("=HH4s8x", socket.AF_INET, 0, packed)


@lru_cache(maxsize=4096)
def origin(raw: bytes) -> Address:
    """A `sockaddr_in` or `sockaddr_in6` → address and port."""
    port = int.from_bytes(raw[2:4], "big")
    packed = raw[8:24] if len(raw) >= 28 else raw[4:8]
    return str(ip_address(packed)), port


def _take_nothing(sock: socket.socket) -> None:
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0), 8)
    program = struct.pack("HL", 1, ctypes.addressof(instruction))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
