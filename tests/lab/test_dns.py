"""DNS rules and the names of `toFQDNs` on real traffic: what is asked, what that opens, and for how long."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.flows.model import Verdict
from proxy.lab.demo import examples
from proxy.lab.plan import DEFAULT_HOSTS
from tests.lab import dns_servers
from tests.lab.clients import Curl
from tests.lab.dns_servers import open_world
from tests.lab.dns_support import (
    addresses,
    ask,
    connected,
    dns_entry,
    dns_flows,
    dns_lab,
    echoes,
    is_open,
    names_entry,
    penstock,
    pods,
    policy,
)
from tests.lab.support import Node, eventually

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]
ASKING, SILENT, COLLECTOR = "billing/billing-service-0", "billing/billing-service-1", "reports/collector"
NAME, HTTPS = "api.stripe.com", 443
HOSTS = {host.name: host.addresses for host in DEFAULT_HOSTS}
EXAMPLE = examples() / "dns"
WORKLOADS = (EXAMPLE / "workloads.yaml").read_text(encoding="utf-8")
POLICIES = [EXAMPLE / "policies.yaml"]
SHORT_TTL_S = 2
GRACE_S = 5
"""How much longer than its TTL an address stays open at least."""
EXPIRY_PATIENCE_S = 90.0
LOOKUPS = int(os.environ.get("LAB_DNS_LOOKUPS", "1000"))


@pytest.fixture(scope="module")
def node(lab_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with dns_lab(lab_name, tmp_path_factory.mktemp("dns"), WORKLOADS, POLICIES) as found:
        yield found


@pytest.fixture
def short(lab_name: str, tmp_path: Path) -> Iterator[Node]:
    """The same, with answers that are soon too old."""
    with dns_lab(f"{lab_name}-s", tmp_path / "short", WORKLOADS, POLICIES, ttl_s=SHORT_TTL_S) as found:
        yield found


def closes(node: Node, address: str) -> None:
    eventually(lambda: not is_open(node, ASKING, address, HTTPS), EXPIRY_PATIENCE_S)


# -- a name opens its addresses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_a_name_opens_its_addresses_on_its_ports(node: Node, tcp: bool) -> None:
    """The server is asked over the protocol that the client has chosen (Q40)."""
    found = (*addresses(node, ASKING, NAME, tcp=tcp), *addresses(node, ASKING, NAME, "AAAA", tcp=tcp))
    assert sorted(found) == sorted(HOSTS[NAME])
    for address in found:
        assert is_open(node, ASKING, address, HTTPS)
        with connected(node, ASKING, address, HTTPS) as connection:
            assert echoes(connection)
    assert not is_open(node, ASKING, found[0], 80)


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("name", ["google.com", "stripe.com", "apiXstripe.com", f"{NAME}.evil.org", f"x.{NAME}"])
def test_any_other_name_is_refused(node: Node, name: str, tcp: bool) -> None:
    assert ask(node, ASKING, name, tcp=tcp).outcome == "refused"


@pytest.mark.parametrize("address", [*HOSTS["google.com"], *HOSTS["example.com"]])
def test_any_other_address_is_closed(node: Node, address: str) -> None:
    addresses(node, ASKING, NAME)
    assert not is_open(node, ASKING, address, HTTPS)


def test_another_pod_of_the_same_policy_has_to_ask_itself(node: Node) -> None:
    found = addresses(node, ASKING, NAME)
    assert is_open(node, ASKING, found[0], HTTPS)
    assert not is_open(node, SILENT, found[0], HTTPS)
    assert ask(node, SILENT, "google.com").outcome == "refused"
    assert not is_open(node, SILENT, found[0], HTTPS)
    assert addresses(node, SILENT, NAME)
    assert is_open(node, SILENT, found[0], HTTPS)


def test_another_server_can_not_be_asked(node: Node) -> None:
    for tcp in (False, True):
        assert ask(node, ASKING, NAME, server=HOSTS["google.com"][0], tcp=tcp, timeout=1.5).outcome == "timeout"


def test_types_that_no_rule_names_are_refused(node: Node) -> None:
    assert ask(node, COLLECTOR, "example.com", "TXT").outcome == "refused"
    assert ask(node, COLLECTOR, "example.com", "HTTPS").outcome == "refused"
    assert ask(node, COLLECTOR, "example.com", "TYPE65280").outcome == "refused"
    assert addresses(node, COLLECTOR, "example.com", "AAAA") == (HOSTS["example.com"][1],)


@pytest.mark.parametrize("ip", [4, 6])
def test_http_rules_behind_a_name(node: Node, ip: int) -> None:
    family = f"-{ip}"
    assert Curl(node, family, "http://example.com/", source=COLLECTOR).only.status == 200
    assert Curl(node, family, "http://example.com/private", source=COLLECTOR).only.status == 403
    assert Curl(node, family, "-X", "DELETE", "http://example.com/", source=COLLECTOR).only.status == 403
    google = next(text for text in HOSTS["google.com"] if (":" in text) == (ip == 6))
    assert addresses(node, COLLECTOR, "google.com", "AAAA" if ip == 6 else "A") == (google,)
    assert not is_open(node, COLLECTOR, google)


def test_what_is_on_record(node: Node) -> None:
    found = addresses(node, ASKING, NAME)
    assert ask(node, ASKING, "secret.google.com").outcome == "refused"
    with connected(node, ASKING, found[0], HTTPS) as connection:
        local = int(connection.getsockname()[1])
    [refused, *_] = eventually(
        lambda: dns_flows(node, ASKING, lambda flow, dns: dns.query == "secret.google.com." and not flow.is_reply)
    )
    assert refused.verdict is Verdict.DROPPED
    assert [one.name for one in refused.egress_denied_by] == ["billing-egress"]

    def answers() -> bool:
        return bool(dns_flows(node, ASKING, lambda flow, dns: dns.query == f"{NAME}." and set(found) <= set(dns.ips)))

    eventually(answers)
    assert node.flow(local, lambda flow: NAME in " ".join(flow.destination_names))


# -- what changes ------------------------------------------------------------------------------------------------------


def test_a_new_address_opens_with_the_next_lookup_and_the_old_one_closes(short: Node) -> None:
    old = addresses(short, ASKING, NAME)
    assert all(is_open(short, ASKING, address, HTTPS) for address in old)
    new = "203.0.113.77"
    assert not is_open(short, ASKING, new, HTTPS)
    short.lab.set_host(NAME, [new])
    eventually(lambda: addresses(short, ASKING, NAME) == (new,))
    assert is_open(short, ASKING, new, HTTPS)
    for address in old:
        closes(short, address)
    assert addresses(short, ASKING, NAME) == (new,)
    assert is_open(short, ASKING, new, HTTPS)


def test_a_live_connection_keeps_its_address(short: Node) -> None:
    old = addresses(short, ASKING, NAME)
    with connected(short, ASKING, old[0], HTTPS) as connection:
        assert echoes(connection)
        short.lab.set_host(NAME, ["203.0.113.78"])
        closes(short, old[1])
        time.sleep(SHORT_TTL_S + 2 * GRACE_S)
        assert echoes(connection)
        assert is_open(short, ASKING, old[0], HTTPS), "for one more, too"
    closes(short, old[0])


def test_a_lookup_in_time_keeps_an_address_open(short: Node) -> None:
    address = addresses(short, ASKING, NAME)[0]
    until = time.monotonic() + 2 * (SHORT_TTL_S + GRACE_S)
    while time.monotonic() < until:
        assert address in addresses(short, ASKING, NAME)
        assert is_open(short, ASKING, address, HTTPS)
        time.sleep(0.5)


def test_what_the_policy_no_longer_names_closes_and_what_it_names_again_opens(node: Node) -> None:
    file = node.policies / "server.yaml"
    before = file.read_text(encoding="utf-8")
    address = addresses(node, ASKING, NAME)[0]
    assert is_open(node, ASKING, address, HTTPS)
    try:
        revision = node.revision()
        # The name may still be asked for: it is the entry that opens.
        head, entry, rest = before.partition("- toFQDNs:\n    - matchName: api.stripe.com")
        assert entry
        file.write_text(f"{head}- toFQDNs:\n    - matchName: www.stripe.com{rest}", encoding="utf-8")
        eventually(lambda: node.revision() > revision)
        eventually(lambda: not is_open(node, ASKING, address, HTTPS))
    finally:
        revision = node.revision()
        file.write_text(before, encoding="utf-8")
        eventually(lambda: node.revision() > revision)
    eventually(lambda: is_open(node, ASKING, address, HTTPS))


# -- the agent is away -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_learnt_stays_open_without_the_agent_and_with_the_next_one(node: Node, signum: int) -> None:
    found = addresses(node, ASKING, NAME)
    eventually(lambda: found[0] in penstock(node, "fqdn", "cache", "list"))
    with connected(node, ASKING, found[0], HTTPS) as connection:
        pid = node.lab.agent_pid
        assert pid is not None
        if signum == signal.SIGKILL:
            node.kill_agent()
        else:
            os.kill(pid, signum)
            eventually(lambda: node.lab.agent_pid is None)
        assert echoes(connection)
        assert all(is_open(node, ASKING, address, HTTPS) for address in found)
        assert not is_open(node, ASKING, HOSTS["google.com"][0], HTTPS)
        assert ask(node, ASKING, NAME, timeout=1.5).outcome != "answers", "nobody is there to judge it"
        node.lab.start_agent()
        assert echoes(connection)
    assert all(is_open(node, ASKING, address, HTTPS) for address in found)
    assert found[0] in penstock(node, "fqdn", "cache", "list")
    assert not is_open(node, ASKING, HOSTS["google.com"][0], HTTPS)
    assert addresses(node, ASKING, NAME)


def test_what_has_become_too_old_meanwhile_closes_when_the_agent_is_back(short: Node) -> None:
    address = addresses(short, ASKING, NAME)[0]
    eventually(lambda: address in penstock(short, "fqdn", "cache", "list"))
    short.kill_agent()
    time.sleep(SHORT_TTL_S + GRACE_S + 1)
    assert is_open(short, ASKING, address, HTTPS), "there is nobody to close it"
    short.lab.start_agent()
    closes(short, address)


# -- the command line --------------------------------------------------------------------------------------------------


def test_the_cache_is_listed_and_cleaned(node: Node) -> None:
    address = addresses(node, ASKING, NAME)[0]
    assert addresses(node, COLLECTOR, "example.com")

    def listed() -> str:
        found = penstock(node, "fqdn", "cache", "list")
        return found if NAME in found and "example.com" in found else ""

    assert address in eventually(listed)
    assert NAME in penstock(node, "fqdn", "names")
    penstock(node, "fqdn", "cache", "clean", "-f", "-p", "*.stripe.com")
    eventually(lambda: NAME not in penstock(node, "fqdn", "cache", "list"))
    assert "example.com" in penstock(node, "fqdn", "cache", "list")
    assert not is_open(node, ASKING, address, HTTPS)
    assert is_open(node, COLLECTOR, HOSTS["example.com"][0])
    assert addresses(node, ASKING, NAME)
    assert is_open(node, ASKING, address, HTTPS)


# -- settings ----------------------------------------------------------------------------------------------------------


def test_refusals_can_be_nxdomain(lab_name: str, tmp_path: Path) -> None:
    """Q26."""
    settings = {"tofqdns-dns-reject-response-code": "nameError"}
    with dns_lab(f"{lab_name}-n", tmp_path / "lab", WORKLOADS, POLICIES, settings) as node:
        for tcp in (False, True):
            assert ask(node, ASKING, "google.com", tcp=tcp).outcome == "nxdomain"
            assert ask(node, ASKING, NAME, tcp=tcp).outcome == "answers"


def test_a_name_that_is_kept_for_longer_than_its_ttl(lab_name: str, tmp_path: Path) -> None:
    settings = {"tofqdns-min-ttl": 600}
    with dns_lab(f"{lab_name}-m", tmp_path / "lab", WORKLOADS, POLICIES, settings, ttl_s=1) as node:
        old = addresses(node, ASKING, NAME)
        node.lab.set_host(NAME, ["203.0.113.79"])
        eventually(lambda: "203.0.113.79" in addresses(node, ASKING, NAME))
        time.sleep(1 + 3 * GRACE_S)
        assert all(is_open(node, ASKING, address, HTTPS) for address in old)


def test_a_server_that_is_silent_is_a_failure_in_time(lab_name: str, tmp_path: Path) -> None:
    """So that resolvers go on to the next one: they wait 5 s themselves."""
    workloads = pods("client") + "---\nkind: World\napiVersion: lab.penstock.io/v1\n"
    rules = policy("client", dns_entry("[{matchPattern: '*'}]", "toEntities: [world]"))
    with dns_lab(f"{lab_name}-t", tmp_path / "lab", workloads, rules) as node:
        # Packets to an address that nobody has go nowhere; where nobody listens there is at least an ICMP message.
        node.lab.exec("world", ["ip", "route", "add", "blackhole", "198.18.9.9/32"], check=True)
        for server in ("198.18.9.9", HOSTS["google.com"][0]):
            assert ask(node, "shop/client", "www.fixed.test", server=server, timeout=5.0).outcome == "servfail"


# -- never a drop after an answer --------------------------------------------------------------------------------------

RACERS = {"client-1": (4, False), "client-2": (6, False), "client-3": (4, True), "client-4": (6, True)}
RACE_PODS = pods("server", *RACERS, "free")
RACE_POLICY = policy(
    "client",
    dns_entry("[{matchPattern: '*.fresh.test'}]", "toEndpoints: [{matchLabels: {app: server}}]"),
    names_entry("[{matchPattern: '*.fresh.test'}]", 80, 81),
)


@pytest.fixture(scope="module")
def race(lab_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Each client has a pod of its own: it is to know no more than `dns-max-names`."""
    folder = tmp_path_factory.mktemp("race")
    with dns_lab(f"{lab_name}-r", folder / "lab", RACE_PODS, RACE_POLICY) as node:
        open_world(node.lab)
        server = [node.address("shop/server", ip) for ip in (4, 6)]
        dns_servers.start(node.lab, "knotd", "shop/server", server, folder / "knotd")
        yield node


@pytest.mark.parametrize("pod", RACERS)
def test_a_connection_right_behind_an_answer_is_never_lost(race: Node, pod: str) -> None:
    ip, tcp = RACERS[pod]
    told = {}
    for where in ("free", pod):
        script = [sys.executable, "-m", "tests.lab.dns_race", race.address("shop/server", ip)]
        script += ["--count", str(LOOKUPS), "--ip", str(ip), *(["--tcp"] if tcp else [])]
        done = race.lab.exec(f"shop/{where}", script, cwd=ROOT, timeout=60 + LOOKUPS / 20)
        assert done.returncode == 0, done.stderr
        told[where] = json.loads(done.stdout)
    for where, found in told.items():
        print(
            f"\n{where}: {found['count']} lookups, p50 {found['p50_us']:.0f} µs, p99 {found['p99_us']:.0f} µs", end=""
        )
        assert found["unanswered"] == []
        assert found["dropped"] == []
    assert not is_open(race, f"shop/{pod}", dns_servers.fresh(LOOKUPS + 1, ip)[1], 81), "which has not been asked for"
