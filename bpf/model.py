"""The programs' verdicts in Python: the oracle of their tests, and the words of an explanation.

Works on the same `DesiredState` that the tables are written from. Follows include/penstock.h and lib/*.h rule by rule,
but not line by line: policies are searched, not looked up in tries. No sockets (a packet for the proxy finds none), no
clock (flows do not expire).

One convention everywhere: > 0 to the proxy, 0 passes, < 0 the negated drop reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from bpf import frames
from bpf.addresses import Address
from bpf.frames import Arp, Datagram, FragmentKind, Packet, Quoted, Role
from bpf.marks import MARK_FROM_PROXY, MARK_MASK, MARK_RESET, MARK_SERVICE, ORIGIN_SHIFT
from bpf.reasons import DropReason
from bpf.tables import (
    HOST_IDENTITY,
    SERVICE_IDENTITY,
    DesiredState,
    EndpointFlag,
    LocalEndpoint,
    Policy,
    Row,
    RowKey,
    RowVerdict,
)

TO_PROXY: Final = 1
ALLOW: Final = 0

WORLD_IDENTITY: Final = {4: 9, 6: 10}


Names = Mapping[tuple[int, Address], Iterable[int]]


def is_outside(identity: int) -> bool:
    """Names are about servers elsewhere: the world's addresses, and those that prefixes of rules stand for."""
    return identity in (2, 9, 10) or 1 << 24 <= identity < 3 << 23


class Direction(IntEnum):
    INGRESS = 0
    EGRESS = 1


_ENFORCES: Final = {
    Direction.INGRESS: EndpointFlag.ENFORCE_INGRESS,
    Direction.EGRESS: EndpointFlag.ENFORCE_EGRESS,
}
_TRIES: Final = {
    Direction.INGRESS: EndpointFlag.TRY_INGRESS,
    Direction.EGRESS: EndpointFlag.TRY_EGRESS,
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the rules of both ends say. `audited`: the refusal that is only reported, 0 if none."""

    verdict: int
    source_identity: int
    destination_identity: int
    direction: Direction
    rules: dict[Direction, int]
    audited: int = 0


@dataclass(frozen=True, slots=True)
class Said:
    """One direction's say: the verdict, the refusal that is only reported (0 if none), the rule behind them."""

    verdict: int
    audited: int = 0
    rule: int = 0


@dataclass(slots=True)
class Flow:
    """`initiator` is one end, (address, port). `upstream`: opened by the proxy, never judged. `service`: judged where
    the real destination is known. `origin`: the endpoint that began it, where the node may have hidden its address.
    `elsewhere`: to an address that is no endpoint's.
    """

    initiator: tuple[Address, int]
    verdict: int
    epoch: int
    midstream: bool = False
    upstream: bool = False
    service: bool = False
    origin: int = 0
    elsewhere: bool = False
    closed: bool = False
    finished: set[tuple[Address, int]] = field(default_factory=set)


FlowKey = tuple[int, frozenset[tuple[Address, int]]]


def identity_of(state: DesiredState, address: Address) -> int:
    """By longest prefix; what no prefix covers is the world."""
    covering = [n for n in state.ipcache if n.version == address.version and address in n]
    if covering:
        return state.ipcache[max(covering, key=lambda network: network.prefixlen)]
    return WORLD_IDENTITY[address.version]


def _matches(key: RowKey, identity: int, direction: Direction, protocol: int, port: int) -> bool:
    if key.identity != identity or key.direction != direction:
        return False
    if key.protocol == 0:
        return True
    return key.protocol == protocol and (key.port ^ port) >> (16 - key.port_bits) == 0


def find_row(
    policy: Policy, identity: int, direction: Direction, protocol: int, port: int, named: Iterable[int] = ()
) -> Row | None:
    """The deciding row: strongest verdict; between equals the narrower, then the peer's own before anybody's, and those
    of the groups of names that have opened its address last.

    Its `audited` is that of either of the first two, the peer's own before anybody's.
    """
    found: list[tuple[RowKey, Row]] = []
    for peer in dict.fromkeys((identity, 0, *named)):
        keys = [key for key in policy if _matches(key, peer, direction, protocol, port)]
        if keys:
            key = max(keys, key=lambda candidate: candidate.prefix)
            found.append((key, policy[key]))
    if not found:
        return None
    _, best = max(found, key=lambda one: (one[1].verdict, one[0].prefix))  # the first of equals
    said = (row.audited for key, row in found if key.identity in (identity, 0) and row.audited)
    return best._replace(audited=next(said, 0))


def judge_endpoint(
    endpoint: LocalEndpoint, direction: Direction, peer: int, protocol: int, port: int, named: Iterable[int] = ()
) -> Said:
    """Whether this direction of the endpoint refuses is up to its rows; whether it does so in earnest, to its flags."""
    if not endpoint.flags & _ENFORCES[direction]:
        return Said(ALLOW)
    row = find_row(endpoint.policy, peer, direction, protocol, port, named) or Row(RowVerdict.NONE, 0)
    verdict = _verdict(row, protocol)
    if verdict == -DropReason.POLICY_DENY or (verdict < 0 and not endpoint.flags & _TRIES[direction]):
        in_earnest = not endpoint.flags & EndpointFlag.AUDIT
        return Said(verdict, 0, row.rule) if in_earnest else Said(ALLOW, verdict, row.rule)
    if row.audited:
        return Said(max(verdict, ALLOW), -DropReason.POLICY_DENY, row.audited)
    return Said(max(verdict, ALLOW), min(verdict, 0), row.rule)


def _verdict(row: Row, protocol: int) -> int:
    match row.verdict:
        case RowVerdict.NONE:
            return -DropReason.POLICY_DENIED
        case RowVerdict.DENY:
            return -DropReason.POLICY_DENY
        case RowVerdict.ALLOW:
            return ALLOW
        case RowVerdict.REDIRECT:
            has_proxy = protocol in (frames.TCP, frames.UDP)
            return TO_PROXY if has_proxy else -DropReason.PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL


def judge(
    state: DesiredState,
    source: Address,
    destination: Address,
    protocol: int,
    port: int,
    origin: int = 0,
    at: int = 0,
    names: Names = MappingProxyType({}),
) -> Judgement:
    """The verdict on a flow from `source` to `port` of `destination`. `origin`: id of the endpoint that sent it, where
    the node may have put its own address in place of the endpoint's. `at`: id of the endpoint at whose interface it is,
    where it may be sent to an address that is no endpoint's.
    """
    sender, receiver = state.endpoints.get(source), state.endpoints.get(destination)
    cannot_proxy = 0
    if sender is None and origin:
        sender, cannot_proxy = _by_id(state, origin), -DropReason.NO_MAPPING_FOR_NAT_MASQUERADE
    if receiver is None and at:
        receiver, cannot_proxy = _by_id(state, at), -DropReason.SOCKET_LOOKUP_FAILED
    source_identity = sender.identity if sender else identity_of(state, source)
    destination_identity = receiver.identity if receiver else identity_of(state, destination)
    verdict, audited = ALLOW, 0
    decided = Direction.EGRESS if sender else Direction.INGRESS
    rules = {Direction.INGRESS: 0, Direction.EGRESS: 0}
    if sender and receiver and sender.id == receiver.id:
        return Judgement(ALLOW, source_identity, destination_identity, decided, rules)
    named: Iterable[int] = ()
    if sender and sender.flags & EndpointFlag.NAMES and not receiver and is_outside(destination_identity):
        named = names.get((sender.id, destination), ())
    for direction, endpoint, peer, groups in (
        (Direction.EGRESS, sender, destination_identity, named),
        (Direction.INGRESS, receiver, source_identity, ()),
    ):
        if endpoint is None or verdict < 0:
            continue
        said = judge_endpoint(endpoint, direction, peer, protocol, port, groups)
        rules[direction] = said.rule
        if said.verdict < 0 or (not audited and (said.audited or said.verdict > verdict)):
            decided = direction
        audited = audited or said.audited
        verdict = said.verdict if said.verdict < 0 else max(verdict, said.verdict)
    if verdict > 0 and cannot_proxy:
        verdict = cannot_proxy
    return Judgement(verdict, source_identity, destination_identity, decided, rules, audited)


def _by_id(state: DesiredState, number: int) -> LocalEndpoint | None:
    return next((one for one in state.endpoints.values() if one.id == number), None)


class Model:
    """The programs with their flow table. `state` and `epoch` may be changed between packets."""

    def __init__(self, state: DesiredState, epoch: int = 1) -> None:
        self.state = state
        self.epoch = epoch
        self.names: Names = {}
        """Endpoint and address → the groups of names that have opened it."""
        self.flows: dict[FlowKey, Flow] = {}
        self.fragments: dict[Datagram, Packet] = {}

    def from_pod(self, frame: bytes, ifindex: int) -> int:
        """TC ingress of the node's end of a pod's veth."""
        packet = frames.parse(frame, self.fragments)
        owners = {endpoint.id for endpoint in self.state.endpoints.values() if endpoint.ifindex == ifindex}
        if not owners:
            return -DropReason.DROP_EP_NOT_READY
        if isinstance(packet, Arp):
            return self._check_arp(packet, owners)
        if isinstance(packet, DropReason):
            return -packet
        owner = self.state.endpoints.get(packet.source)
        is_own = owner is not None and owner.id in owners
        if self._is_link_upkeep(packet, is_own):
            return ALLOW
        if not is_own:
            return -DropReason.INVALID_SOURCE_IP
        verdict = self._track(packet, is_from_pod=True)
        if verdict <= 0 or packet.role is Role.ERROR:
            return verdict
        if packet.fragment is not FragmentKind.NONE:
            if packet.protocol == frames.UDP:
                return -DropReason.IP_FRAGMENTATION_NOT_SUPPORTED
            return -DropReason.IP_FRAGMENTATION_NOT_SUPPORTED if packet.role is Role.OPENS else verdict
        return -DropReason.SOCKET_LOOKUP_FAILED

    def to_pod(self, frame: bytes, ifindex: int, mark: int = 0) -> int:
        """TC egress of the same."""
        packet = frames.parse(frame, self.fragments)
        owners = {endpoint.id for endpoint in self.state.endpoints.values() if endpoint.ifindex == ifindex}
        if not owners:
            return -DropReason.DROP_EP_NOT_READY
        if isinstance(packet, Arp) or mark & MARK_MASK == MARK_RESET:
            return ALLOW
        if mark & MARK_MASK == MARK_FROM_PROXY:
            if isinstance(packet, Packet) and packet.fragment is FragmentKind.NONE:
                self._track_from_proxy(packet)
            return ALLOW
        if isinstance(packet, DropReason):
            return -packet
        if frames.is_neighbour_discovery(packet) or frames.is_listener_discovery(packet):
            return ALLOW
        return self._track(packet, origin=_origin(mark), at=owners.pop())

    def to_world(self, frame: bytes, mark: int = 0) -> int:
        """TC egress of every other interface."""
        if mark & MARK_MASK != MARK_SERVICE:
            return ALLOW
        packet = frames.parse(frame, self.fragments)
        if isinstance(packet, DropReason):
            return -packet
        assert isinstance(packet, Packet), "no pod's ARP is for a service"
        return self._track(packet, origin=_origin(mark))

    def _check_arp(self, arp: Arp, owners: set[int]) -> int:
        if arp.sender is None:
            return -DropReason.INVALID_PACKET_DROPPED
        if int(arp.sender) == 0:
            return ALLOW
        owner = self.state.endpoints.get(arp.sender)
        return ALLOW if owner and owner.id in owners else -DropReason.INVALID_SOURCE_IP

    def _is_link_upkeep(self, packet: Packet, is_own: bool) -> bool:
        source = packet.source
        if not is_own and not (source.version == 6 and (source.is_link_local or source.is_unspecified)):
            return False
        if frames.is_listener_discovery(packet):
            return True
        to_link = packet.destination.is_link_local or frames.is_link_multicast(packet.destination)
        to_node = identity_of(self.state, packet.destination) == HOST_IDENTITY
        return frames.is_neighbour_discovery(packet) and (to_link or to_node)

    def _track(self, packet: Packet, *, is_from_pod: bool = False, origin: int = 0, at: int = 0) -> int:
        verdict = self._verdict(packet, is_from_pod, origin, at)
        if verdict >= 0 and packet.fragment is FragmentKind.FIRST and packet.datagram:
            self.fragments[packet.datagram] = packet
        return verdict

    def _verdict(self, packet: Packet, is_from_pod: bool, origin: int, at: int) -> int:
        if packet.role is Role.ERROR and packet.fragment is FragmentKind.NONE:
            verdict = self._verdict_on_error(packet, is_from_pod)
            return self._new_flow(packet, is_from_pod, origin, at) if verdict is None else verdict
        flow = self.flows.get(_key(packet)) if packet.role not in (Role.SINGLE, Role.ERROR) else None
        if flow is None:
            return self._new_flow(packet, is_from_pod, origin, at)
        from_initiator = flow.initiator == _sender(packet)
        if from_initiator and _begins_anew(packet, flow, is_from_pod, at):
            return self._new_flow(packet, is_from_pod, origin, at)
        if flow.service and origin:
            return self._judge(packet, at=at).verdict
        if packet.role is Role.OPENS and (
            not from_initiator or flow.verdict < 0 or flow.closed or flow.midstream or flow.upstream
        ):
            return self._new_flow(packet, is_from_pod, origin, at)
        if flow.epoch != self.epoch and not flow.upstream:
            flow.verdict = self._judge_again(packet, flow, from_initiator, at)
            flow.epoch = self.epoch
        _note_end(flow, packet)
        return flow.verdict

    def _verdict_on_error(self, packet: Packet, is_from_pod: bool) -> int | None:
        """That of the flow which the error is about; None if there is none."""
        quoted = packet.quoted
        if quoted is None or quoted.source != packet.destination:
            return None
        if is_from_pod and quoted.destination != packet.source:
            return None
        flow = self.flows.get(_key(quoted))
        if flow is None or (flow.epoch != self.epoch and not flow.upstream):
            return None
        return flow.verdict

    def _is_service(self, address: Address) -> bool:
        return identity_of(self.state, address) == SERVICE_IDENTITY

    def _judge_again(self, packet: Packet, flow: Flow, from_initiator: bool, at: int) -> int:
        if flow.service and self._is_service(packet.destination if from_initiator else packet.source):
            return ALLOW
        flow.elsewhere = (packet.destination if from_initiator else packet.source) not in self.state.endpoints
        if flow.midstream:
            flow.elsewhere = packet.destination not in self.state.endpoints
            return self._judge_midstream(packet, at)
        flow.service = False
        if from_initiator:
            verdict = self._judge(packet, flow.origin, at).verdict
        else:
            verdict = self._judge(_reversed(packet), flow.origin).verdict
        if packet.protocol == frames.UDP:
            return verdict
        if flow.verdict > 0 and verdict >= 0:
            return TO_PROXY
        if flow.verdict <= 0 and verdict > 0:
            return -DropReason.SOCKET_LOOKUP_FAILED
        return verdict

    def _judge(self, packet: Packet, origin: int = 0, at: int = 0) -> Judgement:
        ends = packet.source, packet.destination
        return judge(self.state, *ends, packet.protocol, packet.policy_port, origin, at, self.names)

    def _judge_midstream(self, packet: Packet, at: int) -> int:
        forward = self._judge(packet, at=at).verdict
        if forward < 0:
            return forward
        backward = forward if forward > 0 else self._judge(_reversed(packet)).verdict
        return -DropReason.SOCKET_LOOKUP_FAILED if backward > 0 else backward

    def _new_flow(self, packet: Packet, is_from_pod: bool, origin: int, at: int) -> int:
        is_late = packet.role is Role.CONTINUES and packet.protocol == frames.TCP
        if is_from_pod and self._is_service(packet.destination):
            self.flows[_key(packet)] = Flow(_sender(packet), ALLOW, self.epoch, service=True)
            return ALLOW
        midstream = is_late and not origin
        if midstream:
            verdict = self._judge_midstream(packet, at)
        else:
            verdict = self._judge(packet, origin, at).verdict
            if is_late and verdict > 0:
                verdict = -DropReason.SOCKET_LOOKUP_FAILED
        elsewhere = packet.destination not in self.state.endpoints
        if verdict >= 0 and (is_late or packet.role in (Role.ANY, Role.OPENS)) and not (elsewhere and at):
            flow = Flow(_sender(packet), verdict, self.epoch, midstream, origin=origin, elsewhere=elsewhere)
            self.flows[_key(packet)] = flow
        return verdict

    def _track_from_proxy(self, packet: Packet) -> None:
        if packet.protocol not in (frames.TCP, frames.UDP):
            return
        known = self.flows.get(_key(packet))
        if known is None or (known.verdict <= 0 and packet.role is Role.OPENS):
            self.flows[_key(packet)] = Flow(_sender(packet), TO_PROXY, 0, upstream=True)
        else:
            _note_end(known, packet)


def _begins_anew(packet: Packet, flow: Flow, is_from_pod: bool, at: int) -> bool:
    """A packet of the initiator's that a known flow does not speak for."""
    if flow.elsewhere and at:
        return True
    return packet.role is Role.ANY and (flow.verdict < 0 or (flow.upstream and is_from_pod))


def _origin(mark: int) -> int:
    return mark >> ORIGIN_SHIFT if mark & MARK_MASK == MARK_SERVICE else 0


def _sender(packet: Packet | Quoted) -> tuple[Address, int]:
    return packet.source, packet.ports[0]


def _key(packet: Packet | Quoted) -> FlowKey:
    return packet.protocol, frozenset({_sender(packet), (packet.destination, packet.ports[1])})


def _reversed(packet: Packet) -> Packet:
    """The packet as the other side would have sent it to begin the flow."""
    request = frames.echo_request_type(packet.protocol)
    return replace(
        packet,
        source=packet.destination,
        destination=packet.source,
        ports=(packet.ports[1], packet.ports[0]),
        policy_port=packet.ports[0] if request is None else request,
    )


def _note_end(flow: Flow, packet: Packet) -> None:
    if packet.tcp_flags & frames.FIN:
        flow.finished.add(_sender(packet))
    if packet.tcp_flags & frames.RST or len(flow.finished) == 2:
        flow.closed = True
