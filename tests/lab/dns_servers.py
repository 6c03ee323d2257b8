"""DNS servers that many use, with the same names in each, and how to start them in a lab.

    www.fixed.test                 198.18.1.1, 2001:db8:ffff::1
    large.fixed.test               200 addresses: more than fit into 512, 1232 or 1500 bytes
    other.fixed.test               198.18.1.9
    alias.fixed.test               CNAME of www (not with unbound, which does not follow its own)
    n-198-18-X-Y.fresh.test        198.18.X.Y: a name for every address (not with unbound)
    n-2001-0db8-ffff-…-Y.fresh.test

Addresses of 198.18.0.0/15 and 2001:db8:ffff::/48 all belong to the lab's world: `open_world` makes it so.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from proxy.lab import Lab
from proxy.lab.workloads import open_ports
from tests.lab.support import eventually

PORT = 53
TTL_S = 300
WWW = ("198.18.1.1", "2001:db8:ffff::1")
OTHER = "198.18.1.9"
LARGE = tuple(str(IPv4Address("198.18.2.0") + number) for number in range(1, 201))
V4, V6 = "198.18.0.0/15", "2001:db8:ffff::/48"
_FIRST_V4, _FIRST_V6 = IPv4Address("198.18.16.0"), IPv6Address("2001:db8:ffff::1:0")


def fresh(number: int, ip: int = 4) -> tuple[str, str]:
    """The name of which nobody has asked yet, and its address."""
    if ip == 4:
        v4 = _FIRST_V4 + number
        return f"n-{str(v4).replace('.', '-')}.fresh.test", str(v4)
    v6 = _FIRST_V6 + number
    return f"n-{v6.exploded.replace(':', '-')}.fresh.test", str(v6)


def open_world(lab: Lab) -> None:
    """Every address of the two ranges is the world's: something answers there, or at least a reset comes."""
    for command in (["ip", "route", "add", "local", V4], ["ip", "-6", "route", "add", "local", V6]):
        lab.exec("world", [*command, "dev", "lo"], check=True)


def start(lab: Lab, kind: str, where: str, addresses: Sequence[str], folder: Path) -> subprocess.Popen[str]:
    """Start one of `KINDS` on addresses of NAMESPACE/POD, `node` or `world`; `folder` is for its files."""
    folder.mkdir(parents=True)
    with (folder / "log").open("wb") as log:
        child: subprocess.Popen[str] = lab.popen(where, KINDS[kind](folder, addresses), stdout=log, stderr=log)
    eventually(lambda: child.poll() is not None or PORT in open_ports(child.pid))
    assert child.poll() is None, (folder / "log").read_text(encoding="utf-8")
    return child


def knotd(folder: Path, addresses: Sequence[str]) -> list[str]:
    """Authoritative."""
    fixed = [
        *_zone_head(1),
        f"www {TTL_S} A {WWW[0]}",
        f"www {TTL_S} AAAA {WWW[1]}",
        f"other {TTL_S} A {OTHER}",
        f"alias {TTL_S} CNAME www",
        *(f"large {TTL_S} A {address}" for address in LARGE),
    ]
    (folder / "fixed.zone").write_text("\n".join(fixed) + "\n", encoding="ascii")
    (folder / "fresh.zone").write_text("\n".join(_zone_head(1)) + "\n", encoding="ascii")
    listen = ", ".join(f"{address}@{PORT}" for address in addresses)
    # Without a journal: it would be kept between runs, and here is nothing to keep.
    zone = "    zonefile-sync: -1\n    journal-content: none\n"
    config = f"""\
server:
  listen: [{listen}]
  rundir: {folder}
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
  udp-max-payload: 4096
  tcp-io-timeout: 5000
database:
  storage: {folder}
control:
  listen: {folder}/control
mod-synthrecord:
  - id: fresh
    type: forward
    prefix: n-
    ttl: {TTL_S}
    network: [{V4}, {V6}]
zone:
  - domain: fixed.test
    file: {folder}/fixed.zone
{zone}  - domain: fresh.test
    file: {folder}/fresh.zone
    module: mod-synthrecord/fresh
{zone}"""
    (folder / "knot.conf").write_text(config, encoding="ascii")
    return [_program("knotd"), "--config", str(folder / "knot.conf")]


def _zone_head(serial: int) -> list[str]:
    return [f"@ 60 SOA ns hostmaster {serial} 3600 600 86400 60", "@ 60 NS ns", "ns 60 A 192.0.2.1"]


def unbound(folder: Path, addresses: Sequence[str]) -> list[str]:
    """A resolver that has these names as data of its own and asks nobody."""
    data = [("www", "A", WWW[0]), ("www", "AAAA", WWW[1]), ("other", "A", OTHER)]
    data += [("large", "A", address) for address in LARGE]
    lines = "\n".join(f'  local-data: "{name}.fixed.test. {TTL_S} IN {kind} {value}"' for name, kind, value in data)
    interfaces = "\n".join(f"  interface: {address}@{PORT}" for address in addresses)
    config = f"""\
server:
{interfaces}
  access-control: 0.0.0.0/0 allow
  access-control: ::/0 allow
  do-daemonize: no
  use-syslog: no
  logfile: ""
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: ""
  num-threads: 1
  module-config: "iterator"
  edns-buffer-size: 4096
  max-udp-size: 4096
  local-zone: "test." static
{lines}
remote-control:
  control-enable: no
"""
    (folder / "unbound.conf").write_text(config, encoding="ascii")
    return [_program("unbound"), "-d", "-c", str(folder / "unbound.conf")]


def dnsmasq(folder: Path, addresses: Sequence[str]) -> list[str]:
    """The one that labs have for their own names, too."""
    return [
        _program("dnsmasq"),
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        *(f"--listen-address={address}" for address in addresses),
        "--local=/#/",
        f"--local-ttl={TTL_S}",
        "--edns-packet-max=4096",
        "--user=root",
        "--group=root",
        "--pid-file=",
        "--log-facility=-",
        f"--host-record=www.fixed.test,{','.join(WWW)}",
        f"--host-record=other.fixed.test,{OTHER}",
        "--cname=alias.fixed.test,www.fixed.test",
        *(f"--host-record=large.fixed.test,{address}" for address in LARGE),
        f"--synth-domain=fresh.test,{V4},n-",
        f"--synth-domain=fresh.test,{V6},n-",
    ]


KINDS: dict[str, Callable[[Path, Sequence[str]], list[str]]] = {
    "knotd": knotd,
    "unbound": unbound,
    "dnsmasq": dnsmasq,
}


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    assert found is not None, f"{name} is not installed: `make setup` does that"
    return found
