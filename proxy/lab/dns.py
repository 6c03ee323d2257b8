"""The cluster's DNS: which names exist, what is in the pods' /etc, and dnsmasq that serves them.

    SERVICE.NAMESPACE.svc.cluster.local       addresses of the pods that the service selects, or the service's own
    POD.SERVICE.NAMESPACE.svc.cluster.local   pods of a headless service
    POD.NAMESPACE.pod.cluster.local           every pod
    api.stripe.com, ...                       names of the outside world

Pods search NAMESPACE.svc.cluster.local, svc.cluster.local and cluster.local, as in Kubernetes, so `app-service`,
`app-service.test-app` and `frontend-0.web.pod` are enough. What is not there does not exist (NXDOMAIN): a search
list goes on only then.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from proxy.lab.errors import LabError
from proxy.lab.plan import Plan, PlannedPod

ZONE = "cluster.local"
TTL_S = 5
"""Of every answer, unless the lab was brought up with another."""


def host_lines(plan: Plan) -> Iterator[str]:
    """dnsmasq's hosts file: one address and one name a line."""
    for pod in plan.pods:
        for address in (pod.v4, pod.v6):
            yield f"{address} {pod.spec.name}.{pod.spec.namespace}.pod.{ZONE}"
    for placed in plan.services:
        for address in (placed.v4, placed.v6):
            yield f"{address} {placed.spec.name}.{placed.spec.namespace}.svc.{ZONE}"
    for service in plan.manifests.services:
        if plan.services and not service.headless:
            continue
        full = f"{service.name}.{service.namespace}.svc.{ZONE}"
        for pod in plan.pods:
            if service.selects(pod.spec):
                for address in (pod.v4, pod.v6):
                    yield f"{address} {full}"
                    if service.headless:
                        yield f"{address} {pod.spec.name}.{full}"
    for address in (plan.dns.v4, plan.dns.v6):
        yield f"{address} kube-dns.kube-system.svc.{ZONE}"
    for host in plan.hosts:
        for text in host.addresses:
            yield f"{text} {host.name}"


def with_host(lines: Iterable[str], name: str, addresses: Iterable[str]) -> Iterator[str]:
    """The hosts file with other addresses for one name."""
    for line in lines:
        if line.split()[1:] != [name]:
            yield line
    for address in addresses:
        yield f"{address} {name}"


def resolv_conf(plan: Plan, namespace: str) -> str:
    searches = [f"svc.{ZONE}", ZONE]
    if namespace:
        searches.insert(0, f"{namespace}.svc.{ZONE}")
    return f"nameserver {plan.dns.v4}\nsearch {' '.join(searches)}\noptions ndots:5 timeout:1 attempts:2\n"


def etc_files(plan: Plan, pod: PlannedPod | None) -> dict[str, str]:
    """What differs from the host's /etc inside a pod (None: inside the node or the world)."""
    hosts = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
    if pod is not None:
        hosts += f"{pod.v4} {pod.spec.name}\n{pod.v6} {pod.spec.name}\n"
    files = {"resolv.conf": resolv_conf(plan, pod.spec.namespace if pod else ""), "hosts": hosts}
    switch = Path("/etc/nsswitch.conf")
    if switch.exists():
        # The host may resolve by a local service (systemd-resolved, mDNS) that knows nothing of the lab.
        lines = switch.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [line for line in lines if not line.strip().startswith("hosts:")]
        files["nsswitch.conf"] = "\n".join([*kept, "hosts: files dns", ""])
    return files


def server_command(hosts_file: Path, ttl_s: int) -> list[str]:
    """dnsmasq in the foreground, reading nothing of the host's configuration and asking nobody.

    On SIGHUP it reads the hosts file again.
    """
    program = shutil.which("dnsmasq", path="/usr/sbin:/usr/bin:/sbin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        raise LabError("dnsmasq is not installed", "`make setup` installs it; by hand: apt-get install dnsmasq-base")
    return [
        program,
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        f"--addn-hosts={hosts_file}",
        "--local=/#/",
        f"--local-ttl={ttl_s}",
        "--user=root",
        "--group=root",
        "--pid-file=",
        "--log-facility=-",
        "--log-queries",
    ]
