"""What is refused at load, with which code and where. Ids are those of the conformance table of the policy language."""

from __future__ import annotations

import pytest

from config import codes
from config.findings import Code, Severity
from tests.config.policy.builders import clusterwide, codes_of, load, policy

SUBJECT = "endpointSelector: {}\n"


def ports(*items: str) -> str:
    return "toPorts: [{ports: [" + ", ".join(items) + "]}]"


def port(number: str, protocol: str = "TCP") -> str:
    return f'{{port: "{number}", protocol: {protocol}}}'


def http(ports_text: str, rules: str = "{}", direction: str = "ingress") -> str:
    return f"{SUBJECT}{direction}:\n- toPorts: [{{ports: [{ports_text}], rules: {{http: [{rules}]}}}}]"


ACCEPTED = [
    ("V03", "ingressDeny: [{}]"),
    ("V04", "ingress: [{}]\ningressDeny: [{}]"),
    ("V05", "egress: [{}]\negressDeny: [{}]"),
    ("V06", "egressDeny: [{}]"),
    ("V41a", "ingress: [{icmps: [{fields: [{family: IPv4, type: 8}]}]}]"),
    ("V41b", "ingress: [{icmps: [{fields: [{family: IPv4, type: EchoRequest}]}]}]"),
    ("V41c", 'ingress: [{icmps: [{fields: [{type: "8"}]}]}]'),
    ("V44", "ingress: [{icmps: [{fields: [{family: IPv6, type: 128}]}]}]"),
    *(
        (f"V47-{number}", f'egress: [{{toCIDRSet: [{{cidr: "{cidr}"}}]}}]')
        for number, cidr in enumerate(
            (
                "0.0.0.0/0",
                "10.0.0.0/24",
                "192.0.2.3/32",
                "::/0",
                "ff02::/64",
                "2001:0db8:85a3:0000:0000:8a2e:0370:7334/128",
            )
        )
    ),
    ("V49", "egress: [{toCIDRSet: [{cidr: 10.0.0.0/24, except: [10.0.0.1/32, 10.0.0.128/25]}]}]"),
    ("V53", 'ingress: [{fromCIDR: [192.168.2.0, 10.0.3.1, "2001:db9::", "2001:db8::1/48"]}]'),
    ("V59", 'egress: [{toCIDR: ["::cafe/128", "bad:f00d:cafe::bad/64", "f00d::0:0/120", "0:0:0:0:0:0:0:cafe/128"]}]'),
    ("lower case protocol", f"ingress: [{{{ports(port('80', 'tcp'))}}}]"),
    ("no protocol", 'ingress: [{toPorts: [{ports: [{port: "80"}]}]}]'),
    ("40 ports", f"ingress: [{{{ports(*(port(str(n)) for n in range(1, 41)))}}}]"),
    ("yes and no as booleans", "enableDefaultDeny: {ingress: no, egress: Yes}\ningress: [{}]"),
    ("log", "log: {value: from the web}\ningress: [{}]"),
    ("labels", "labels: [{key: a, value: b, source: k8s}]\ningress: [{}]"),
    ("authentication off", "ingress: [{authentication: {mode: disabled}, fromEndpoints: [{}]}]"),
    ("two kinds, one empty", "ingress: [{fromEndpoints: [], fromCIDR: [10.0.0.1]}]"),
]


@pytest.mark.parametrize("spec", [spec for _, spec in ACCEPTED], ids=[name for name, _ in ACCEPTED])
def test_accepted(spec: str) -> None:
    file = load(policy(SUBJECT + spec))
    assert file.ok, file.findings
    assert len(file.documents) == 1


@pytest.mark.parametrize(
    ("spec"),
    [
        pytest.param(http(port("80") + ", " + port("81")), id="V11"),
        pytest.param(http('{port: "80", endPort: 90, protocol: TCP}'), id="ranges"),
        pytest.param(http(port("web")), id="named port"),
        pytest.param(http(port("80"), direction="egress"), id="egress"),
    ],
)
def test_http_accepted(spec: str) -> None:
    assert load(policy(spec)).ok


def dns(rule: str) -> str:
    return f"egress: [{{toPorts: [{{ports: [{{port: '53', protocol: ANY}}], rules: {{dns: [{rule}]}}}}]}}]"


def kafka(rule: str, direction: str = "ingress") -> str:
    return f"{direction}: [{{toPorts: [{{ports: [{{port: '9092', protocol: TCP}}], rules: {{kafka: [{rule}]}}}}]}}]"


def server_names(name: str) -> str:
    return f"egress: [{{toPorts: [{{ports: [{{port: '443', protocol: TCP}}], serverNames: ['{name}']}}]}}]"


S10 = (
    "***",
    "example.***.com",
    "example.c**",
    "example.com.",
    "example..com",
    "^example.com$",
    ".+example.com",
    "[a-zA-Z]*.example.com",
    "(foo|bar).example.com",
)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param("egress: [{toFQDNs: [{matchName: cilium.io.}, {matchPattern: '*._cilium.io'}]}]", id="D01"),
        pytest.param(dns("{matchName: _cilium.io, matchPattern: '*cilium.io'}"), id="D01 dns"),
        pytest.param(dns("{matchName: get-cilium.io.}"), id="D01 hyphen"),
        pytest.param(dns("{}").replace("ANY", "TCP"), id="V16"),
        pytest.param(kafka("{role: Produce}"), id="F20"),
        pytest.param(kafka("{apiKey: FETCH, apiVersion: '3', clientID: x, topic: a.b_c-1}"), id="F21"),
        pytest.param(server_names("foo.bar.com"), id="V23"),
        pytest.param(server_names("**.sub.*.ex*e.com"), id="S09"),
        pytest.param("ingress: [{fromNodes: [{matchLabels: {zone: a}}]}]", id="N08"),
        pytest.param(
            f"egress: [{{toServices: [{{k8sServiceSelector: {{selector: {{}}}}}}], {ports(port('80'), port('81'))}}}]",
            id="V57",
        ),
        pytest.param(
            f"egressDeny: [{{toServices: [{{k8sService: {{serviceName: s}}}}], {ports(port('80'))}}}]", id="V57 deny"
        ),
        pytest.param("ingress: [{fromCIDRSet: [{cidrGroupRef: g}, {cidrGroupSelector: {}}]}]", id="CIDR groups"),
        pytest.param(
            http(port("80"), "{headerMatches: [{name: a, secret: {name: s}, mismatch: REPLACE}]}")[len(SUBJECT) :],
            id="secret",
        ),
    ],
)
def test_accepted_perhaps_with_warnings(spec: str) -> None:
    file = load(policy(SUBJECT + spec))
    assert file.ok, file.findings
    assert len(file.documents) == 1


REFUSED: list[tuple[str, str, Code]] = [
    ("V01", "{}", codes.RULE_NO_SECTIONS),
    ("V01 deny", "ingressDeny: []", codes.RULE_NO_SECTIONS),
    ("V13", http(port("80", "ANY")), codes.L7_PROTOCOL),
    ("V13 none", http('{port: "80"}'), codes.L7_PROTOCOL),
    ("V14", http(port("80") + ", " + port("12345", "UDP")), codes.L7_PROTOCOL),
    ("V14 reversed", http(port("12345", "UDP") + ", " + port("80")), codes.L7_PROTOCOL),
    ("V15", "egress: [{toPorts: [{rules: {dns: [{matchName: a.b}]}}]}]", codes.DNS_PORTS),
    ("V17", "ingress: [{toPorts: [{ports: [{port: '53'}], rules: {dns: [{matchName: a.b}]}}]}]", codes.DNS_DIRECTION),
    (
        "V18",
        "egress: [{toPorts: [{ports: [{port: '443', endPort: 445, protocol: TCP}], rules: {dns: [{}]}}]}]",
        codes.DNS_PORTS,
    ),
    ("V19", http(port("0")), codes.L7_PORT_ZERO),
    ("V21", http(port("80"), '{path: "*"}'), codes.REGEX_BAD),
    ("V22", http(port("80"), '{method: "*"}'), codes.REGEX_BAD),
    ("bad host", http(port("80"), '{host: "(["}'), codes.REGEX_BAD),
    ("look-around", http(port("80"), '{path: "/(?!x)"}'), codes.REGEX_BAD),
    ("big regex", http(port("80"), '{path: "(.*a.{500}x)+"}'), codes.REGEX_BIG),
    ("repetition", http(port("80"), '{path: "a{1,2000}"}'), codes.REGEX_BIG),
    ("V24", 'egress: [{toPorts: [{ports: [{port: "443"}], serverNames: [""]}]}]', codes.SERVER_NAME_BAD),
    (
        "V29",
        "egress: [{toPorts: [{ports: [{port: '80', protocol: TCP}], listener: {envoyConfig: {name: e}, name: l}, "
        "rules: {http: [{}]}}]}]",
        codes.LISTENER_BAD,
    ),
    (
        "listener on ingress",
        "ingress: [{toPorts: [{ports: [{port: '80'}], listener: {envoyConfig: {name: e}, name: l}}]}]",
        codes.LISTENER_BAD,
    ),
    ("V34", f"ingress: [{{{ports(*(port(str(n)) for n in range(1, 42)))}}}]", codes.PORT_TOO_MANY),
    ("V34 deny", f"ingressDeny: [{{{ports(*(port(str(n)) for n in range(1, 42)))}}}]", codes.PORT_TOO_MANY),
    ("V38", f"egress: [{{icmps: [{{fields: [{', '.join(['{type: 8}'] * 41)}]}}]}}]", codes.ICMP_TOO_MANY),
    ("V39", "ingress: [{icmps: [{fields: [{family: hoge, type: 8}]}]}]", codes.ICMP_FAMILY),
    ("V42", "ingress: [{icmps: [{fields: [{family: IPv4, type: ICMPNodeInformationQuery}]}]}]", codes.ICMP_BAD),
    ("ICMP 256", "ingress: [{icmps: [{fields: [{type: 256}]}]}]", codes.ICMP_BAD),
    ("ICMP true", "ingress: [{icmps: [{fields: [{type: true}]}]}]", codes.ICMP_BAD),
    *(
        (
            f"V40 {section}",
            f"{section}: [{{icmps: [{{fields: [{{type: 8}}]}}], {ports(port('80'))}}}]",
            codes.ICMP_WITH_PORTS,
        )
        for section in ("ingress", "ingressDeny", "egress", "egressDeny")
    ),
    ("V46", "egress: [{toCIDRSet: [{}]}]", codes.CIDR_CHOICE),
    ("V48", "egress: [{toCIDRSet: [{cidr: 10.0.0.0/254.0.0.255}]}]", codes.CIDR_BAD),
    ("set without length", "egress: [{toCIDRSet: [{cidr: 10.0.0.1}]}]", codes.CIDR_BAD),
    ("V50 broader", "egress: [{toCIDRSet: [{cidr: 10.0.0.0/24, except: [10.0.0.0/16]}]}]", codes.CIDR_EXCEPT),
    ("V50 outside", "egress: [{toCIDRSet: [{cidr: 10.0.0.0/24, except: [10.1.0.0/24]}]}]", codes.CIDR_EXCEPT),
    ("V51", "egress: [{toCIDRSet: [{cidr: 10.0.0.0/10, except: [10.64.0.0/11]}]}]", codes.CIDR_EXCEPT),
    ("except of the other family", 'egress: [{toCIDRSet: [{cidr: 10.0.0.0/8, except: ["::/96"]}]}]', codes.CIDR_EXCEPT),
    ("V54 dots", "ingress: [{fromCIDR: [10.0.1..0/24]}]", codes.CIDR_BAD),
    ("V54 mask", "ingress: [{fromCIDR: [10.0.1.0/128.0.0.128]}]", codes.CIDR_BAD),
    ("mask", "ingress: [{fromCIDR: [10.0.0.0/255.0.0.0]}]", codes.CIDR_BAD),
    ("V54 length", "ingress: [{fromCIDR: [10.0.1.0/34]}]", codes.CIDR_BAD),
    ("zone", 'ingress: [{fromCIDR: ["fe80::1%eth0"]}]', codes.CIDR_BAD),
    ("V56", "egress: [{toCIDRSet: [{cidrGroupRef: g, cidrGroupSelector: {matchLabels: {a: b}}}]}]", codes.CIDR_CHOICE),
    ("V60 in", "ingress: [{fromEntities: [everything]}]", codes.ENTITY_UNKNOWN),
    ("V60 out", "egress: [{toEntities: [All]}]", codes.ENTITY_UNKNOWN),
    ("V63", "ingress: [{toPorts: [{ports: ['port \"8050\"']}]}]", codes.SCHEMA_TYPE),
    ("V64", "ingress: [{fromEndpoints: [{matchLabels: {a: [b]}}]}]", codes.SCHEMA_TYPE),
    ("D03", "egress: [{toFQDNs: [{matchName: a.b, matchPattern: '*'}]}]", codes.FQDN_BOTH),
    ("Q31", "egress: [{toFQDNs: [{matchPattern: '-invalid-pattern('}]}]", codes.FQDN_BAD),
    ("Q31 dns", dns("{matchPattern: '-invalid-pattern('}"), codes.FQDN_BAD),
    ("name with a star", dns("{matchName: '*.b'}"), codes.FQDN_BAD),
    ("long name", dns("{matchName: " + "a" * 256 + "}"), codes.FQDN_BAD),
    ("query type", dns("{matchName: a.b, queryTypes: [AAAAA]}"), codes.QUERY_TYPE_BAD),
    ("FQDN on ingress", "ingress: [{toFQDNs: [{matchName: a.b}]}]", codes.SCHEMA_UNKNOWN),
    ("kafka on egress", kafka("{}", "egress"), codes.KAFKA_DIRECTION),
    ("kafka over UDP", kafka("{}").replace("TCP", "UDP"), codes.L7_PROTOCOL),
    ("F20 admin", kafka("{role: admin}"), codes.KAFKA_BAD),
    ("F21", kafka("{apiKey: foo}"), codes.KAFKA_BAD),
    ("role and key", kafka("{role: produce, apiKey: fetch}"), codes.KAFKA_BAD),
    ("version", kafka("{apiVersion: '32768'}"), codes.KAFKA_BAD),
    ("F23 long", kafka("{topic: " + "a" * 256 + "}"), codes.KAFKA_BAD),
    ("F23 star", kafka("{topic: 'a*'}"), codes.KAFKA_BAD),
    (
        "two L7 kinds",
        "ingress: [{toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{}], kafka: [{}]}}]}]",
        codes.L7_TWO_KINDS,
    ),
    ("combined peers", "ingress: [{fromEndpoints: [{}], fromEntities: [world]}]", codes.PEERS_COMBINED),
    ("combined CIDRs", "ingress: [{fromCIDR: [10.0.0.1], fromCIDRSet: [{cidr: 10.0.0.0/8}]}]", codes.PEERS_COMBINED),
    ("combined FQDN", "egress: [{toFQDNs: [{matchName: a.b}], toCIDR: [10.0.0.1]}]", codes.PEERS_COMBINED),
    ("requires", "ingress: [{fromRequires: [{matchLabels: {a: b}}]}]", codes.REQUIRES_REMOVED),
    ("operator", "ingress: [{fromEndpoints: [{matchExpressions: [{key: a, operator: Has}]}]}]", codes.SCHEMA_VALUE),
    (
        "In without values",
        "ingress: [{fromEndpoints: [{matchExpressions: [{key: a, operator: In}]}]}]",
        codes.SELECTOR_BAD,
    ),
    (
        "Exists with values",
        "ingress: [{fromEndpoints: [{matchExpressions: [{key: a, operator: Exists, values: [b]}]}]}]",
        codes.SELECTOR_BAD,
    ),
    ("label value", 'ingress: [{fromEndpoints: [{matchLabels: {a: "b c"}}]}]', codes.SELECTOR_BAD),
    ("port as number", "ingress: [{toPorts: [{ports: [{port: 80}]}]}]", codes.SCHEMA_TYPE),
    ("endPort as text", "ingress: [{toPorts: [{ports: [{port: '80', endPort: '90'}]}]}]", codes.SCHEMA_TYPE),
    ("port too high", f"ingress: [{{{ports(port('65536'))}}}]", codes.PORT_BAD),
    ("negative port", f"ingress: [{{{ports(port('-1'))}}}]", codes.PORT_BAD),
    ("bad octal", f"ingress: [{{{ports(port('089'))}}}]", codes.PORT_BAD),
    ("name too long", f"ingress: [{{{ports(port('a' * 16))}}}]", codes.PORT_BAD),
    ("double hyphen", f"ingress: [{{{ports(port('a--b'))}}}]", codes.PORT_BAD),
    ("no port", "ingress: [{toPorts: [{ports: [{protocol: TCP}]}]}]", codes.PORT_BAD),
    ("endPort too high", "ingress: [{toPorts: [{ports: [{port: '80', endPort: 65536}]}]}]", codes.PORT_BAD),
    ("range from 0", "ingress: [{toPorts: [{ports: [{port: '0', endPort: 10}]}]}]", codes.PORT_BAD),
    ("ICMP as protocol", f"ingress: [{{{ports(port('8', 'ICMP'))}}}]", codes.PROTOCOL_BAD),
    ("VRRP", "ingress: [{toPorts: [{ports: [{protocol: VRRP}]}]}]", codes.NOT_PROTOCOL),
    ("unknown field", "ingres: [{}]", codes.SCHEMA_UNKNOWN),
    ("L7 in deny", f"ingressDeny: [{{toPorts: [{{ports: [{port('80')}], rules: {{}}}}]}}]", codes.SCHEMA_DENY_L7),
    ("FQDN in deny", "egressDeny: [{toFQDNs: [{matchName: a.b}]}]", codes.SCHEMA_DENY_L7),
    ("log too long", f"log: {{value: {'x' * 33}}}\ningress: [{{}}]", codes.LOG_BAD),
    ("log not printable", 'log: {value: "a\\tb"}\ningress: [{}]', codes.LOG_BAD),
    ("own label", "labels: [{key: io.cilium.k8s.policy.name, value: x}]\ningress: [{}]", codes.LABEL_RESERVED),
    ("boolean label value", "ingress: [{fromEndpoints: [{matchLabels: {a: true}}]}]", codes.SCHEMA_TYPE),
    ("empty header", http(port("80"), '{headers: [": x"]}'), codes.HEADER_BAD),
    (
        "framing header",
        http(port("80"), "{headerMatches: [{name: Content-Length, value: '1', mismatch: REPLACE}]}"),
        codes.HEADER_UNTOUCHABLE,
    ),
    (
        "header value",
        http(port("80"), '{headerMatches: [{name: a, value: "b\\r\\nc: d", mismatch: ADD}]}'),
        codes.HEADER_VALUE,
    ),
    ("header name", http(port("80"), "{headerMatches: [{name: 'a b', value: x}]}"), codes.HEADER_BAD),
    ("no header action", http(port("80"), "{headerMatches: [{name: a, mismatch: X}]}"), codes.SCHEMA_VALUE),
    ("l7proto", f"ingress: [{{toPorts: [{{ports: [{port('80')}], rules: {{l7proto: r2d2}}}}]}}]", codes.NOT_L7PROTO),
    (
        "serverNames with HTTP",
        f"egress: [{{toPorts: [{{ports: [{port('443')}], serverNames: [a.b], rules: {{http: [{{}}]}}}}]}}]",
        codes.SERVER_NAMES_WITH_L7,
    ),
    ("serverNames over UDP", server_names("a.b").replace("TCP", "UDP"), codes.L7_PROTOCOL),
    *(("S10 " + name, server_names(name), codes.SERVER_NAME_BAD) for name in S10),
    (
        "TLS",
        f"egress: [{{toPorts: [{{ports: [{port('443')}], terminatingTLS: {{secret: {{name: s}}}}}}]}}]",
        codes.NOT_TLS,
    ),
    (
        "listener",
        f"egress: [{{toPorts: [{{ports: [{port('80')}], listener: {{envoyConfig: {{name: e}}, name: l}}}}]}}]",
        codes.NOT_LISTENER,
    ),
    ("no service", "egress: [{toServices: [{}]}]", codes.SERVICE_CHOICE),
    ("service without a name", "egress: [{toServices: [{k8sService: {namespace: b}}]}]", codes.SERVICE_CHOICE),
    ("groups", "egress: [{toGroups: [{aws: {securityGroupsIds: [sg-1]}}]}]", codes.NOT_GROUPS),
    ("authentication", "ingress: [{authentication: {mode: required}, fromEndpoints: [{}]}]", codes.NOT_AUTHENTICATION),
]


@pytest.mark.parametrize(("spec", "code"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused(spec: str, code: Code) -> None:
    # Specs made by `http` bring their selector along.
    whole = spec if spec.startswith(SUBJECT) else SUBJECT + ("" if spec == "{}" else spec)
    file = load(policy(whole))
    assert not file.documents
    errors = [finding for finding in file.findings if finding.is_error]
    assert code.id in codes_of(errors), errors
    assert all(finding.line > 0 and finding.column > 0 for finding in errors)
    assert [summary.valid for summary in file.summaries] == [False]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param(policy("ingress: [{}]"), codes.RULE_NO_SELECTOR, id="V09"),
        pytest.param(policy("endpointSelector:\ningress: [{}]"), codes.RULE_NO_SELECTOR, id="V09 null"),
        pytest.param(
            clusterwide("endpointSelector: {}\nnodeSelector: {}\ningress: [{}]"),
            codes.RULE_TWO_SELECTORS,
            id="V08, V65",
        ),
        pytest.param(policy("nodeSelector: {}\ningress: [{}]"), codes.RULE_NODE_IN_CNP, id="V61"),
        pytest.param(clusterwide("nodeSelector: {}\ningress: [{}]"), codes.NOT_NODE_SELECTOR, id="V33"),
        pytest.param(clusterwide("nodeSelector: {}\n" + http(port("80"))[len(SUBJECT) :]), codes.HOST_L7, id="V30"),
        pytest.param(
            clusterwide("nodeSelector: {}\n" + http(port("80"), direction="egress")[len(SUBJECT) :]),
            codes.HOST_L7,
            id="V31",
        ),
        pytest.param(
            clusterwide(
                "endpointSelector: {}\negress: [{toPorts: [{ports: [{port: '80'}], "
                "listener: {envoyConfig: {kind: CiliumEnvoyConfig, name: e}, name: test}}]}]"
            ),
            codes.LISTENER_BAD,
            id="M38",
        ),
        pytest.param(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: x}\n",
            codes.RULE_EMPTY_OBJECT,
            id="empty",
        ),
        pytest.param(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: x}\nspecs: []\n",
            codes.RULE_EMPTY_OBJECT,
            id="no specs",
        ),
        pytest.param(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {namespace: x}\nspec: {}\n",
            codes.SCHEMA_MISSING,
            id="no name",
        ),
        pytest.param(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: x, namspace: y}\nspec: {}\n",
            codes.SCHEMA_UNKNOWN,
            id="misspelt namespace",
        ),
        pytest.param(policy(SUBJECT + "ingress: [{}]", name="A_b"), codes.NAMESPACE_BAD, id="bad name"),
    ],
)
def test_objects_refused(text: str, code: Code) -> None:
    file = load(text)
    assert not file.documents
    assert code.id in codes_of(file.findings)


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ("ingress: []", codes.EMPTY_SECTION),
        ("egress: []", codes.EMPTY_SECTION),
        ("egress: [{}]", codes.EMPTY_ENTRY),
        ("ingress: [{toPorts: []}]", codes.EMPTY_ENTRY),
        ("egress: [{toEntities: [kube-dns]}]", codes.KUBE_DNS_ENTITY),
        (
            "ingress: [{fromEndpoints: [{matchLabels: {a: b}, namespaceSelector: {matchLabels: {c: d}}}]}]",
            codes.NAMESPACE_SELECTOR,
        ),
        ("ingress: [{toPorts: [{}]}]", codes.EMPTY_PORTS),
        ("ingress: [{fromCIDRSet: [{cidrGroupRef: g, except: [10.0.0.0/8]}]}]", codes.GROUP_EXCEPT),
        ("ingress: [{fromEndpoints: []}]", codes.EMPTY_PEERS),
        ('ingress: [{toPorts: [{ports: [{port: "010"}]}]}]', codes.PORT_SPELLING),
        ('ingress: [{toPorts: [{ports: [{port: "1_000"}]}]}]', codes.PORT_SPELLING),
        ('ingress: [{toPorts: [{ports: [{port: "90", endPort: 80}]}]}]', codes.END_PORT_IGNORED),
        ('ingress: [{toPorts: [{ports: [{port: "http", endPort: 80}]}]}]', codes.END_PORT_IGNORED),
        (
            "ingress: [{toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{headers: ['X-Key:v']}]}}]}]",
            codes.HEADER_SPELLING,
        ),
        (
            "ingress: [{toPorts: [{ports: [{port: '80', protocol: TCP}], "
            "rules: {http: [{headerMatches: [{name: a, value: b, mismatch: FAIL}]}]}}]}]",
            codes.MISMATCH_FAIL,
        ),
    ],
)
def test_warned_about_but_accepted(spec: str, code: Code) -> None:
    file = load(policy(SUBJECT + spec))
    assert len(file.documents) == 1
    assert codes_of(file.findings) == [code.id]
    assert code.severity is Severity.WARNING


def test_a_finding_points_at_the_value() -> None:
    text = policy('endpointSelector: {}\ningress:\n- toPorts:\n  - ports:\n    - port: "80"\n      protocol: ICMP')
    (finding,) = load(text).findings
    assert (finding.file, finding.line, finding.column) == ("policies.yaml", 10, 19)
    assert finding.path == "spec.ingress[0].toPorts[0].ports[0].protocol"
    assert str(finding) == 'policies.yaml:10:19: error[CNP115] unknown protocol "ICMP"'


def test_an_unknown_field_is_named_where_its_key_stands() -> None:
    (finding,) = load(policy("endpointSelector: {}\ningress: [{fromEndpoint: []}]")).findings
    assert (finding.line, finding.column) == (6, 14)
    assert finding.hint == 'did you mean "fromEndpoints"?'


def test_a_number_for_text_says_how_to_write_it() -> None:
    (finding,) = load(policy("endpointSelector: {}\ningress: [{toPorts: [{ports: [{port: 80}]}]}]")).findings
    assert finding.message == '"port" must be text, not the number 80'
    assert finding.hint == 'put it in quotes: "80"'


def test_all_errors_are_found_at_once() -> None:
    file = load(policy("endpointSelector: {}\ningress: [{fromCIDR: [x, y]}]\negress: [{toEntities: [z]}]"))
    assert codes_of(file.findings) == ["CNP109", "CNP109", "CNP112"]


def test_codes_are_unique_and_none_is_forgotten() -> None:
    constants = [value for value in vars(codes).values() if isinstance(value, Code)]
    assert len(codes.ALL) == len(constants)
