"""Every code that a finding may carry. A code keeps its meaning for ever; new meanings get new numbers.

YML: bytes and YAML. DOC: which objects a file holds. CNP0xx: the schema, CNP1xx: what a rule says, CNP2xx: known
constructs that are not enforced, CNP3xx: accepted here, but worth a look. EPF: the endpoints file. SEC: secrets.
SET: settings. CAS: tables of `policy test`.
"""

from __future__ import annotations

from config.findings import Code, Severity

_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO

YAML_SYNTAX = Code("YML001", _E, "not valid YAML")
YAML_SIZE = Code("YML002", _E, "file too large", "split it: one file may have 8 MiB and a million values")
YAML_DEPTH = Code("YML003", _E, "nested too deeply", "no policy needs more than 64 levels")
YAML_ALIASES = Code("YML004", _E, "too many aliases", "write the values out instead of repeating anchors")
YAML_DUPLICATE = Code("YML005", _E, "key given twice", "of two equal keys one would be lost: merge or remove one")
YAML_TAG = Code("YML006", _E, "tags are not accepted", "quote the value instead of tagging it")
YAML_ENCODING = Code("YML007", _E, "not UTF-8", "save the file as UTF-8")
YAML_KEY = Code(
    "YML008", _E, "a key must be a plain word", "render templates ({{ }}) first; quote a key that has brackets"
)
YAML_MERGE = Code("YML009", _E, "merge keys (<<) are not accepted", "write the merged keys out")
FILE_UNREADABLE = Code("YML010", _E, "the file cannot be read", "check its owner and mode")
FILE_NOT_REGULAR = Code("YML011", _E, "not a regular file")

DOC_NOT_OBJECT = Code("DOC001", _E, "not an object with apiVersion and kind")
DOC_OTHER_KIND = Code("DOC002", _I, "not a policy: ignored")
DOC_DUPLICATE = Code("DOC003", _E, "an object of that kind and name exists already", "rename one, or remove it")
DOC_RULE_LIST = Code(
    "DOC004",
    _E,
    "a bare list of rules",
    "wrap each rule as `spec` of a CiliumNetworkPolicy with apiVersion, kind and metadata.name",
)
DOC_API_VERSION = Code("DOC005", _E, "unknown apiVersion of a policy kind", "use cilium.io/v2")
DOC_NONE = Code("DOC006", _I, "the file holds no document")
DOC_STALE = Code("DOC007", _W, "the last good version of this file stays in force")
DOC_LOCKED = Code("DOC008", _W, "what this file may select is default-deny until it can be read")
DOC_MISSPELT = Code("DOC009", _E, "almost the name of a policy kind", "correct apiVersion and kind")
DOC_EMPTIED = Code(
    "DOC010",
    _W,
    "a file with policies became empty: they stay in force",
    "remove the file to remove its policies",
)
DOC_MORE = Code("DOC011", _I, "more findings than are told", "the first of them come first: mend these")

SCHEMA_UNKNOWN = Code("CNP001", _E, "unknown field")
SCHEMA_MISSING = Code("CNP002", _E, "required field is missing")
SCHEMA_TYPE = Code("CNP003", _E, "wrong type")
SCHEMA_VALUE = Code("CNP004", _E, "value not allowed")
SCHEMA_DENY_L7 = Code("CNP005", _E, "not possible in a deny rule", "deny rules decide on peers and ports only")

FQDN_BAD = Code("CNP140", _E, "not a DNS name or pattern")
FQDN_BOTH = Code("CNP141", _E, "matchName and matchPattern in one item of toFQDNs", "use two items: they are OR-ed")
FQDN_DIRECTION = Code("CNP142", _E, "toFQDNs is for egress")
QUERY_TYPE_BAD = Code("CNP143", _E, "not a type of DNS query", "like A, AAAA, HTTPS or TYPE65")
KAFKA_DIRECTION = Code("CNP144", _E, "Kafka rules are for ingress", "put them into the policy of the brokers")
KAFKA_BAD = Code("CNP145", _E, "not possible in a Kafka rule")
AUDIT_BAD = Code("CNP148", _E, "the annotation policy.penstock.io/audit is neither true nor false", 'write "true"')
SERVER_NAMES_WITH_L7 = Code(
    "CNP146", _E, "serverNames and L7 rules in one entry", "without terminating TLS nobody can read what is inside"
)
SERVICE_CHOICE = Code("CNP147", _E, "no service named")
HEADER_VALUE = Code("CNP150", _E, "not the value of a header")
HEADER_UNTOUCHABLE = Code("CNP151", _E, "that header cannot be changed", "LOG and no `mismatch` are possible")
SECRET_NAMESPACE = Code("CNP152", _E, "the secret's namespace is missing")

RULE_EMPTY_OBJECT = Code("CNP101", _E, "neither spec nor specs", "add `spec:` with the rule")
RULE_NO_SELECTOR = Code("CNP102", _E, "no endpointSelector", "`endpointSelector: {}` selects all")
RULE_TWO_SELECTORS = Code("CNP103", _E, "endpointSelector and nodeSelector in one rule")
RULE_NODE_IN_CNP = Code("CNP104", _E, "nodeSelector in a namespaced policy", "use CiliumClusterwideNetworkPolicy")
RULE_NO_SECTIONS = Code("CNP105", _E, "no ingress, ingressDeny, egress or egressDeny")
SELECTOR_BAD = Code("CNP106", _E, "invalid label selector")
PEERS_COMBINED = Code("CNP107", _E, "two kinds of peers in one entry", "use one entry per kind: entries are OR-ed")
REQUIRES_REMOVED = Code("CNP108", _E, "fromRequires/toRequires do not exist any more", "put the labels into the peer")
CIDR_BAD = Code("CNP109", _E, "not a CIDR", "write it like 10.0.0.0/8 or 2001:db8::/32")
CIDR_EXCEPT = Code("CNP110", _E, "except is not inside the CIDR")
CIDR_CHOICE = Code("CNP111", _E, "exactly one of cidr, cidrGroupRef and cidrGroupSelector is wanted")
ENTITY_UNKNOWN = Code("CNP112", _E, "unknown entity")
PORT_BAD = Code("CNP113", _E, "not a port")
PORT_TOO_MANY = Code("CNP114", _E, "too many ports in one entry", "40 at most: use a range, or another entry")
PROTOCOL_BAD = Code("CNP115", _E, "unknown protocol", "TCP, UDP, SCTP or ANY; ICMP goes into `icmps`")
L7_PROTOCOL = Code("CNP116", _E, "L7 rules need TCP", "write `protocol: TCP` beside each port of that entry")
L7_PORT_ZERO = Code("CNP117", _E, "L7 rules need a port", "name the ports that carry the protocol")
L7_TWO_KINDS = Code("CNP118", _E, "more than one kind of L7 rules in one entry")
REGEX_BAD = Code("CNP119", _E, "not a regular expression", 'RE2 syntax, matched in full: any text is ".*"')
REGEX_BIG = Code("CNP120", _E, "regular expression too expensive", "avoid large repetitions like .{500}")
HEADER_BAD = Code("CNP121", _E, "header without a name")
ICMP_BAD = Code("CNP122", _E, "not an ICMP type of that family")
ICMP_FAMILY = Code("CNP123", _E, "wrong family", "IPv4 or IPv6")
ICMP_WITH_PORTS = Code("CNP124", _E, "icmps and toPorts in one entry", "use two entries")
ICMP_TOO_MANY = Code("CNP125", _E, "too many ICMP fields", "40 at most in one list")
LOG_BAD = Code("CNP126", _E, "log.value must be printable and have at most 32 characters")
DNS_DIRECTION = Code("CNP127", _E, "DNS rules are for egress")
DNS_PORTS = Code("CNP128", _E, "DNS rules need ports without ranges")
LISTENER_BAD = Code("CNP129", _E, "listener not possible here")
SERVER_NAME_BAD = Code("CNP130", _E, "not a server name")
LABEL_RESERVED = Code("CNP132", _E, "that label is given by the system", "leave out io.cilium.k8s.policy.* labels")
HOST_L7 = Code("CNP133", _E, "L7 rules in a host policy")
NAMESPACE_BAD = Code("CNP134", _E, "not a name of an object")
L7_CONFLICT = Code(
    "CNP135",
    _E,
    "two kinds of L7 rules for the same peers and port",
    "a connection has one parser: give the protocols ports of their own, or drop one of the rules",
)

NOT_NODE_SELECTOR = Code("CNP201", _E, "nodeSelector is not enforced", "host policies are not part of this version")
# Numbers not to be used again: CNP202 … 204, 206 … 208, 210, 214, 215, 217, 218, 220, 223.
NOT_GROUPS = Code("CNP205", _E, "fromGroups/toGroups is not enforced", "use fromCIDRSet/toCIDRSet with the addresses")
NOT_L7PROTO = Code("CNP209", _E, "l7proto is not enforced", "leave `rules` out to allow the port: no generic parsers")
NOT_TLS = Code("CNP211", _E, "TLS is not terminated", "leave TLS out, and L7 rules of that port with it")
NOT_LISTENER = Code("CNP212", _E, "listener is not enforced", "there is no Envoy here; use `rules.http`")
NOT_AUTHENTICATION = Code("CNP213", _E, "authentication is not enforced", "use an mTLS mesh, or `mode: disabled`")
NOT_PROTOCOL = Code("CNP216", _E, "only TCP, UDP, SCTP and ICMP are enforced")
NOT_TIERED = Code("CNP219", _E, "this kind of policy is not enforced", "write it as CiliumNetworkPolicy")

QUERY_TYPES = Code("CNP314", _W, "Cilium has no queryTypes", "there the rule is refused, or allows every type")
KAFKA_PORTABLE = Code("CNP315", _W, "Cilium 1.20 has no Kafka rules any more", "they work up to 1.19, and here")
FQDN_WITH_ENTITIES = Code(
    "CNP316",
    _W,
    "Cilium refuses toFQDNs and toEntities in one entry",
    "taken as either; portable: two entries",
)

GROUP_EXCEPT = Code("CNP317", _W, "Cilium does not check except beside a CIDR group", "taken as without these prefixes")
UNLISTED_DIRECTION = Code(
    "CNP318",
    _W,
    "rules of a direction that policyTypes does not list",
    "Cilium applies them, Kubernetes does not: taken as Cilium does; list the direction or remove the rules",
)

EMPTY_SECTION = Code(
    "CNP301",
    _W,
    "an empty list is default deny here",
    "Cilium counts it as absent; `- {}` means default deny in both",
)
KUBE_DNS_ENTITY = Code(
    "CNP302",
    _W,
    "Cilium has no entity kube-dns",
    "taken as the pods k8s-app=kube-dns in kube-system; portable: toEndpoints with these labels",
)
NAMESPACE_SELECTOR = Code(
    "CNP303",
    _W,
    "Cilium drops namespaceSelector in a peer",
    "portable: label k8s:io.cilium.k8s.namespace.labels.<key> in matchLabels",
)
EMPTY_ENTRY = Code("CNP304", _W, "an empty entry allows nothing", "to allow everything write toEntities: [all]")
EMPTY_PORTS = Code("CNP305", _W, "an entry without ports allows nothing")
NAMESPACE_FORCED = Code("CNP306", _W, "a policy selects in its own namespace only")
PORT_SPELLING = Code("CNP307", _W, "unusual spelling of a number", "write it in decimals")
HEADER_SPELLING = Code("CNP308", _W, "header rule without a space", 'write "Name: value", or "Name" for presence')
MISMATCH_FAIL = Code("CNP309", _W, "Cilium has no mismatch action FAIL", "leave `mismatch` out: it means the same")
NAMESPACE_IGNORED = Code("CNP310", _W, "a cluster-wide policy has no namespace", "remove metadata.namespace")
END_PORT_IGNORED = Code("CNP311", _W, "endPort has no effect here")
DESCRIPTION_OUTSIDE = Code("CNP313", _W, "description outside of the rule", "move it into spec")
EMPTY_PEERS = Code("CNP312", _W, "an empty list of peers selects nobody", "leave the key out to mean any peer")

# Lint: what rules do together. `config/policy/lint/` finds these.
SHADOWED = Code(
    "CNP320",
    _W,
    "L7 rules made void by a plain rule",
    "rules are OR-ed: where one allows the port without L7 rules every request passes; remove it or narrow its peers",
)
HOST_DOT = Code("CNP321", _W, "unescaped dot in host", r"`.` matches any character: write `\.`")
PATH_DOT = Code("CNP322", _I, "unescaped dot in path", r"`.` matches any character: write `\.`")
PATH_NEVER = Code("CNP323", _W, "path that can never match", "paths begin with / and patterns match the whole of them")
METHOD_CASE = Code("CNP324", _W, "method in lower case", "methods are case-sensitive: write GET, or (?i)get for both")
PATH_QUERY = Code(
    "CNP325",
    _I,
    "path without the query part",
    r"patterns match the path with its query: to allow /x?y=1, too, write /x(\?.*)?",
)
HTTP_ON_TLS = Code(
    "CNP326",
    _W,
    "HTTP rules on a port of TLS",
    "what is encrypted cannot be read and is refused: use the port of plain HTTP, or serverNames",
)
FQDN_NO_DNS = Code(
    "CNP327",
    _W,
    "toFQDNs without a DNS rule",
    "addresses are learnt from answers that pass the DNS proxy: allow port 53 to the DNS server with `rules.dns`",
)
FQDN_NOT_ASKED = Code(
    "CNP328", _W, "toFQDNs names what the DNS rules refuse", "add the name to `rules.dns` of the DNS server's entry"
)
FQDN_NO_PORTS = Code("CNP329", _I, "toFQDNs without ports", "addresses are shared by many names: name the ports")
FQDN_VOID = Code(
    "CNP330",
    _W,
    "toFQDNs beside a rule that allows every address",
    "rules are OR-ed: remove the wider rule, or give it other ports",
)
EGRESS_NO_DNS = Code(
    "CNP331",
    _I,
    "default deny of egress without DNS",
    "pods that look names up need UDP and TCP port 53 to the DNS server",
)
ALLOW_DENIED = Code(
    "CNP332", _W, "an allow rule that a deny rule covers", "deny wins over every allow: remove one of them"
)
ENTRY_TWICE = Code("CNP333", _I, "the same rule twice", "remove one: it changes nothing")
WORLD_CIDR = Code(
    "CNP334",
    _I,
    "a CIDR of every address does not mean pods",
    "CIDRs are about what lies outside: add toEntities: [cluster]",
)
EVERYBODY_DENIED = Code(
    "CNP335",
    _I,
    "default deny for all pods of all namespaces",
    "that includes kube-system: exclude it with matchExpressions, or allow what it needs",
)
GROUP_UNKNOWN = Code("CNP336", _W, "a CIDR group that is not there", "add the CiliumCIDRGroup, or correct its name")
SERVICE_UNKNOWN = Code("CNP337", _W, "a service that is not there", "add the Service, or correct its name")
SUBJECT_NOBODY = Code("CNP338", _W, "endpointSelector selects no endpoint", "compare the labels with the endpoints'")
PEER_NOBODY = Code("CNP339", _I, "a peer selects no endpoint", "compare labels and namespace with the endpoints'")
CIDR_OF_PODS = Code(
    "CNP340", _I, "a CIDR with addresses of pods", "CIDRs never mean pods: select them by labels, with endpoints"
)
PORT_NOBODY = Code(
    "CNP341", _W, "a named port that no endpoint has", "compare the name with the ports of the endpoints"
)

EPF_SCHEMA = Code("EPF001", _E, "not as an endpoints file should be")
EPF_DUPLICATE = Code("EPF002", _E, "given twice")
EPF_ADDRESS = Code("EPF003", _E, "not an IP address")
EPF_LABEL = Code("EPF004", _E, "not a label")

SECRET_UNREADABLE = Code("SEC001", _E, "a secret cannot be read", "check owner and mode of the files in secrets-dir")
SECRET_KEYS = Code("SEC002", _E, "it is not clear which key of the secret counts", "call it value or token")
SECRET_VALUE = Code("SEC003", _E, "the secret cannot be the value of a header")
SECRET_MANY = Code("SEC004", _E, "too many secrets")
SECRET_MISSING = Code(
    "SEC006", _W, "a secret that a rule names is not there", "the rule matches nothing until it is in secrets-dir"
)
SECRET_PLACE = Code("SEC005", _E, "not in the folder of a namespace", "secrets are at secrets-dir/NAMESPACE/NAME")

CASE_SCHEMA = Code("CAS001", _E, "not as a table of cases should be", "`penstock policy test --help` shows one")

SET_UNKNOWN = Code("SET001", _E, "unknown setting")
SET_VALUE = Code("SET002", _E, "value not allowed")
SET_SOURCE = Code("SET003", _E, "settings cannot be read")

ALL: dict[str, Code] = {code.id: code for code in list(globals().values()) if isinstance(code, Code)}
