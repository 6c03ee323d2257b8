/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What the kernel programs and userspace agree on: keys, values, events, reasons, marks.
 * bpf/structs.py mirrors every struct; the loader compares the two through the object's BTF.
 */
#ifndef PENSTOCK_H
#define PENSTOCK_H

#include <linux/types.h>

/* An address of either family; IPv4 as ::ffff:a.b.c.d, so that one map serves both. Network byte order. */
struct address {
	__be32 word[4];
};

struct tuple {
	struct address source;
	struct address destination;
	__be16 source_port; /* ICMP echo: the identifier, in both places */
	__be16 destination_port;
	__u8 protocol;
	__u8 pad[3];
};

/* reopenings: a SYN on the ports of a connection in TIME_WAIT, from TC to the listener's lookup on the same CPU */
struct reopening {
	struct tuple tuple;
	__u32 slot; /* of proxy_sockets */
	__u32 is_set;
};

/* endpoints: address -> who lives there on this node */
enum endpoint_flag {
	ENDPOINT_ENFORCE_INGRESS = 1,
	ENDPOINT_ENFORCE_EGRESS = 2,
	ENDPOINT_AUDIT = 4, /* nothing is refused, only reported */
	ENDPOINT_TRY_INGRESS = 8, /* its default deny is only tried out: reported, not enforced */
	ENDPOINT_TRY_EGRESS = 16,
	ENDPOINT_NAMES = 32, /* its egress rules name servers by DNS names */
};

struct endpoint {
	__u32 id;
	__u32 identity;
	__u32 policy_id;
	__u32 ifindex; /* the node's end of its veth; 0 while that is missing */
	__u32 flags;
};

/* endpoints_by_if: interface -> who is behind it. Addresses beyond the first two are looked up in `endpoints`. */
struct interface {
	__u32 id;
	__u32 pad;
	struct address own[2];
};

/* ipcache: longest prefix -> identity */
struct ipcache_key {
	__u32 prefix; /* bits; IPv4 counts from 96 */
	struct address address;
};

/* names: endpoint and address outside -> the groups of names that answers to this very endpoint have opened it for */
#define NAME_SLOTS 8

struct names_key {
	__u32 endpoint;
	struct address address;
};

struct name_slot {
	__u32 identity; /* of the group; 0 = free */
	__u32 until; /* seconds of CLOCK_BOOTTIME; for userspace: while nobody is there to renew it, it stays open */
};

struct names_value {
	struct name_slot slots[NAME_SLOTS];
};

/* policy: policy id -> trie of these. Identity and direction are always exact; then protocol, then bits of the port. */
struct policy_key {
	__u32 prefix; /* 40 any protocol, 48 any port, 64 one port */
	__u32 identity; /* 0 = any */
	__u8 direction;
	__u8 protocol;
	__be16 port; /* ICMP: the type */
};

enum direction {
	INGRESS = 0,
	EGRESS = 1,
};

enum policy_verdict {
	POLICY_NONE = 0, /* only deny rules that are tried out */
	POLICY_ALLOW = 1,
	POLICY_REDIRECT = 2,
	POLICY_DENY = 3,
};

struct policy_value {
	__u32 rule;
	__u32 audited; /* a deny rule that is only tried out and covers this entry; 0 = none */
	__u8 verdict; /* the strongest of all entries that cover this one */
	__u8 prefix; /* its own key's, to tell which of two matches is the narrower */
	__u8 pad[2];
};

/* ct: ordered tuple -> flow. "low" is the side with the smaller (address, port), the key's source. */
enum ct_flag {
	CT_INITIATOR_HIGH = 1,
	CT_UPSTREAM = 2, /* a leg that the proxy opened: never judged, only ever handed to its socket */
	CT_MIDSTREAM = 4, /* nobody saw who began it: both directions must be permitted */
	CT_REPLIED = 8,
	CT_FIN_LOW = 16,
	CT_FIN_HIGH = 32,
	CT_CLOSED = 64,
	CT_PROXIED = 128, /* its permission was withdrawn while the proxy had it */
	CT_SERVICE = 256, /* to an address of a service: judged where the real destination is known */
	CT_ELSEWHERE = 512, /* to an address that is no endpoint's of this node; if it arrives at one, that was not asked */
};

struct ct_value {
	__u32 flags;
	__u32 epoch; /* policy epoch of the verdict */
	__s32 verdict; /* > 0 to the proxy, 0 allowed, < 0 permission withdrawn: the negated drop reason */
	__u32 last_seen; /* in units of 2^30 ns */
	__u32 rule[2]; /* that allowed it, by direction; 0 = not enforced */
	__u32 origin; /* endpoint that began it, if its address may be hidden by the node's; else 0 */
};

/* proxy_conns: tuple of a redirected connection as the client sent it -> what the proxy must know */
enum connection_flag {
	CONNECTION_INGRESS = 1, /* the destination's ingress rules asked for the proxy */
	CONNECTION_EGRESS = 2,
};

struct connection {
	__u32 source_endpoint; /* 0 = not on this node */
	__u32 destination_endpoint;
	__u32 source_identity;
	__u32 destination_identity;
	__u32 flags;
	__u32 ifindex; /* where it was seen */
};

/* fragments: a datagram whose first fragment was let through -> what only that one shows */
struct fragment_key {
	struct address source;
	struct address destination;
	__u32 id; /* IPv4's has 16 bits */
	__u8 protocol; /* IPv6: the header behind the fragment header */
	__u8 pad[3];
};

struct fragment_value {
	__be16 source_port;
	__be16 destination_port;
	__be16 policy_port;
	__u8 protocol;
	__u8 role;
};

/* config: one value that userspace changes at runtime. The first four members keep their places for ever: of maps of
 * another version only these are read.
 */
struct config {
	__u32 epoch;
	__u32 workers;
	__u32 bounce_ifindex;
	__u32 saved_early_demux; /* for userspace: two bits each for TCP and UDP, the value before ours plus one */
	__u32 changing; /* for userspace: the tables are being written, the epoch of that is still to come */
};

/* Fixed when the programs are loaded. */
struct settings {
	__u32 events_per_window; /* per CPU and window of 2^27 ns (about 134 ms) */
	__u32 udp_timeout; /* the timeouts in units of 2^30 ns */
	__u32 tcp_timeout;
	__u32 tcp_opening_timeout;
	__u32 tcp_closed_timeout;
	__u32 silent; /* 1: a connection whose permission is withdrawn is not reset, its packets just vanish */
};

enum event_type { /* numbers as in Cilium's monitor */
	EVENT_DROP = 1,
	EVENT_VERDICT = 5,
};

enum event_flag {
	EVENT_AUDIT = 1, /* would have been dropped; `verdict` says why */
	EVENT_REPLY = 2,
};

struct event {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	struct tuple tuple;
	__s32 verdict; /* > 0 to the proxy, 0 allowed, < 0 the negated drop reason */
	__u32 source_endpoint;
	__u32 destination_endpoint;
	__u32 source_identity;
	__u32 destination_identity;
	__u32 rule[2]; /* by direction */
	__u32 ifindex;
	__u32 length;
	__u8 type;
	__u8 direction; /* that decided */
	__u8 family; /* 4, 6; 0 = not IP */
	__u8 flags;
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 pad[1];
};

struct events_budget {
	__u64 window;
	__u32 left;
	__u32 pad;
	__u64 rate_limited;
	__u64 ring_full;
};

/* metrics: index = reason * 2 + direction, reason 0 = forwarded */
struct metric {
	__u64 packets;
	__u64 bytes;
};

enum drop_reason { /* Cilium's numbers */
	DROP_INVALID_SOURCE = 132,
	DROP_POLICY = 133,
	DROP_INVALID_PACKET = 134,
	DROP_UNSUPPORTED_L3 = 139,
	DROP_UNKNOWN_L4 = 142,
	DROP_INVALID_EXTHDR = 156,
	DROP_FRAGMENT = 157,
	DROP_NAT_NO_MAPPING = 160,
	DROP_NO_SOCKET = 178,
	DROP_SOCKET_ASSIGN = 179,
	DROP_PROXY_PROTOCOL = 180,
	DROP_POLICY_DENY = 181,
	DROP_NOT_READY = 203,
};

/* Marks, in the bits of MARK_MASK. */
#define MARK_MASK 0xF00
#define MARK_TO_PROXY 0x200
#define MARK_SERVICE 0x400 /* not judged yet: the node translates its destination; the sender's endpoint id above */
#define MARK_RESET 0x700 /* a TCP reset of ours, on its way */
#define MARK_FROM_PROXY 0xB00
/* Beside MARK_TO_PROXY: the node's connection tracking has seen the packet already. */
#define MARK_UNTRACKED 0x1000
/* Beside MARK_SERVICE there may be 0x2000, set by bpf/translation.py: the node itself is behind the service. */
#define MARK_ORIGIN_SHIFT 16

#define MAX_WORKERS 128
#define MAX_EXTENSION_HEADERS 4

#define IDENTITY_HOST 1
#define IDENTITY_WORLD 2
#define IDENTITY_WORLD_IPV4 9
#define IDENTITY_WORLD_IPV6 10
#define IDENTITY_FIRST_CIDR (1 << 24)
#define IDENTITY_FIRST_NAMED (3 << 23)
#define IDENTITY_SERVICE 0xFFFFFF /* of no endpoint: addresses that the node translates */

#endif
