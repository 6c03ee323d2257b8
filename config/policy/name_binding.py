"""Names, and what is asked for behind them: whoever comes by DNS names alone must ask for such a name there.

The proxy's judges and `policy explain` both ask here (`tofqdns-bind-names`).
"""

from __future__ import annotations

from config.policy.dns_names import canonical, selects
from config.policy.resolved import FqdnPeer, L7Kind
from parsers.facts import ClientHello, HttpRequest

MAX_TOLD = 3
"""Names of rules that are told."""

BOUND_KINDS: dict[str, tuple[L7Kind, ...]] = {
    "off": (),
    "tls": (L7Kind.TLS,),
    "all": (L7Kind.TLS, L7Kind.HTTP),
}
"""By the setting: what is bound to names."""


def wrong_name(wanted: frozenset[FqdnPeer], request: ClientHello | HttpRequest) -> str:
    """Why a client that came by DNS names may not ask for this; empty if it may."""
    if isinstance(request, HttpRequest):
        what, name = "host", host_name(request)
    else:
        what, name = "server name", request.server_name
    found = canonical(name)
    if found and any(selects(peer.name, peer.pattern, found) for peer in wanted):
        return ""
    shown = ", ".join(sorted(map(str, wanted))[:MAX_TOLD]) + (", ..." if len(wanted) > MAX_TOLD else "")
    return f'{what} "{name}" is none of the names that opened this address (toFQDNs {shown})'


def host_name(request: HttpRequest) -> str:
    """The host without its port."""
    host = request.host.decode("latin-1")
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
