/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A frame -> struct packet, or the reason why it is none that we let through. Reads only; decides nothing else. */
#ifndef PENSTOCK_PARSE_H
#define PENSTOCK_PARSE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../include/penstock.h"
#include "maps.h"

#define PARSED_IP 0
#define PARSED_ARP 1

#define ICMP_ECHOREPLY 0
#define ICMP_DEST_UNREACH 3
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
#define ICMPV6_DEST_UNREACH 1
#define ICMPV6_PARAMETERPROB 4
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY 129

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define IP_MORE_FRAGMENTS 0x2000
#define IP_FRAGMENT_OFFSET 0x1FFF

/* How a packet stands to its flow. */
enum packet_role {
	ROLE_ANY = 0, /* may begin a flow, may continue one: UDP, SCTP */
	ROLE_OPENS, /* only its sender can be the initiator: TCP SYN, ICMP echo request */
	ROLE_CONTINUES, /* cannot begin a flow: any other TCP segment, ICMP echo reply */
	ROLE_SINGLE, /* belongs to no flow: the other ICMP types */
	ROLE_ERROR, /* an ICMP error: belongs to the flow of the packet that it quotes */
};

enum fragment {
	FRAGMENT_NONE = 0,
	FRAGMENT_FIRST, /* has the ports */
	FRAGMENT_LATER, /* has those of the first */
};

struct packet {
	struct tuple tuple; /* as on the wire */
	__u32 length;
	__be16 policy_port; /* what rules call the port, seen from the sender */
	__u8 family;
	__u8 role;
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 hop_limit;
	__u8 fragment;
	__u8 fragment_protocol;
	__u16 offset; /* of the transport header, from the frame's start */
	__u16 is_from_pod; /* it is just leaving a pod */
	__u32 fragment_id;
	__u16 origin; /* endpoint that sent it, of a packet to a service; else 0. Their numbers have 16 bits */
	__u16 receiver; /* endpoint that it is about to reach, whatever address it is sent to; else 0 */
};

static __always_inline void map_ipv4(struct address *address, __be32 ipv4)
{
	address->word[0] = 0;
	address->word[1] = 0;
	address->word[2] = bpf_htonl(0xFFFF);
	address->word[3] = ipv4;
}

static __always_inline int parse_ports(struct __sk_buff *skb, struct packet *packet, __u32 offset)
{
	__be16 ports[2];

	if (bpf_skb_load_bytes(skb, offset, ports, sizeof(ports)) < 0)
		return -DROP_INVALID_PACKET;
	packet->tuple.source_port = ports[0];
	packet->tuple.destination_port = ports[1];
	packet->policy_port = ports[1];
	return PARSED_IP;
}

static __always_inline int parse_tcp(struct __sk_buff *skb, struct packet *packet, __u32 offset)
{
	__u8 header[14];
	__u8 flags;

	if (bpf_skb_load_bytes(skb, offset, header, sizeof(header)) < 0)
		return -DROP_INVALID_PACKET;
	packet->tuple.source_port = *(__be16 *)&header[0];
	packet->tuple.destination_port = *(__be16 *)&header[2];
	packet->policy_port = packet->tuple.destination_port;
	flags = header[13];
	packet->tcp_flags = flags;
	packet->offset = offset;
	packet->role = (flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN ? ROLE_OPENS : ROLE_CONTINUES;
	return PARSED_IP;
}

static __always_inline int parse_icmp(struct __sk_buff *skb, struct packet *packet, __u32 offset, __u8 request,
				      __u8 reply)
{
	struct {
		__u8 type;
		__u8 code;
		__be16 checksum;
		__be16 identifier;
		__be16 sequence;
	} header;

	if (bpf_skb_load_bytes(skb, offset, &header, sizeof(header)) < 0)
		return -DROP_INVALID_PACKET;
	packet->icmp_type = header.type;
	packet->icmp_code = header.code;
	packet->policy_port = bpf_htons(header.type);
	packet->role = ROLE_SINGLE;
	packet->offset = offset;
	if (packet->family == 4 ? header.type == ICMP_DEST_UNREACH || header.type == ICMP_TIME_EXCEEDED ||
					  header.type == ICMP_PARAMETERPROB
				: header.type >= ICMPV6_DEST_UNREACH && header.type <= ICMPV6_PARAMETERPROB)
		packet->role = ROLE_ERROR;
	if (header.type == request || header.type == reply) {
		packet->role = header.type == request ? ROLE_OPENS : ROLE_CONTINUES;
		packet->tuple.source_port = header.identifier;
		packet->tuple.destination_port = header.identifier;
	}
	return PARSED_IP;
}

static __always_inline int parse_l4(struct __sk_buff *skb, struct packet *packet, __u32 offset)
{
	switch (packet->tuple.protocol) {
	case IPPROTO_TCP:
		return parse_tcp(skb, packet, offset);
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		return parse_ports(skb, packet, offset);
	case IPPROTO_ICMP:
		if (packet->family != 4)
			return -DROP_UNKNOWN_L4;
		return parse_icmp(skb, packet, offset, ICMP_ECHO, ICMP_ECHOREPLY);
	case IPPROTO_ICMPV6:
		if (packet->family != 6)
			return -DROP_UNKNOWN_L4;
		return parse_icmp(skb, packet, offset, ICMPV6_ECHO_REQUEST, ICMPV6_ECHO_REPLY);
	default:
		return -DROP_UNKNOWN_L4;
	}
}

static __always_inline void fragment_key(const struct packet *packet, struct fragment_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->source = packet->tuple.source;
	key->destination = packet->tuple.destination;
	key->id = packet->fragment_id;
	key->protocol = packet->fragment_protocol;
}

/* `place` is the offset in the datagram, in units of 8 bytes, not 0. A later fragment is judged as the first one was; without
 * the first nothing could put the datagram together, so it is no loss that this one is dropped.
 */
static __always_inline int parse_later_fragment(struct packet *packet, __u32 place)
{
	struct fragment_value *first;
	struct fragment_key key;

	fragment_key(packet, &key);
	first = bpf_map_lookup_elem(&fragments, &key);
	if (!first)
		return -DROP_FRAGMENT;
	/* RFC 3128: it would overwrite the flags of the header that was judged. */
	if (first->protocol == IPPROTO_TCP && place == 1)
		return -DROP_FRAGMENT;
	packet->fragment = FRAGMENT_LATER;
	packet->tuple.protocol = first->protocol;
	packet->tuple.source_port = first->source_port;
	packet->tuple.destination_port = first->destination_port;
	packet->policy_port = first->policy_port;
	packet->role = first->role;
	return PARSED_IP;
}

/* After the first fragment was let through: only then do the others count, so nobody fills the map with what is
 * dropped.
 */
static __always_inline void remember_fragment(const struct packet *packet)
{
	struct fragment_value value = {};
	struct fragment_key key;

	fragment_key(packet, &key);
	value.source_port = packet->tuple.source_port;
	value.destination_port = packet->tuple.destination_port;
	value.policy_port = packet->policy_port;
	value.protocol = packet->tuple.protocol;
	value.role = packet->role == ROLE_OPENS ? ROLE_CONTINUES : packet->role == ROLE_ERROR ? ROLE_SINGLE : packet->role;
	bpf_map_update_elem(&fragments, &key, &value, BPF_ANY);
}

static __always_inline int parse_ipv4(struct __sk_buff *skb, struct packet *packet)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) < 0)
		return -DROP_INVALID_PACKET;
	packet->family = 4;
	map_ipv4(&packet->tuple.source, ip.saddr);
	map_ipv4(&packet->tuple.destination, ip.daddr);
	packet->tuple.protocol = ip.protocol;
	packet->hop_limit = ip.ttl;
	/* Options (IHL > 5) carry source routes and nothing that a pod needs. */
	if (ip.version != 4 || ip.ihl != 5)
		return -DROP_INVALID_PACKET;
	if (bpf_ntohs(ip.tot_len) < sizeof(ip) || bpf_ntohs(ip.tot_len) > skb->len - ETH_HLEN)
		return -DROP_INVALID_PACKET;
	if (ip.frag_off & bpf_htons(IP_MORE_FRAGMENTS | IP_FRAGMENT_OFFSET)) {
		packet->fragment_id = bpf_ntohs(ip.id);
		packet->fragment_protocol = ip.protocol;
		packet->fragment = FRAGMENT_FIRST;
		if (ip.frag_off & bpf_htons(IP_FRAGMENT_OFFSET))
			return parse_later_fragment(packet, bpf_ntohs(ip.frag_off) & IP_FRAGMENT_OFFSET);
	}
	return parse_l4(skb, packet, ETH_HLEN + sizeof(ip));
}

/* RFC 8200 §4: extension headers. The walk is bounded; what it cannot see through is dropped. */
static __always_inline int parse_ipv6(struct __sk_buff *skb, struct packet *packet)
{
	__u32 offset = ETH_HLEN + sizeof(struct ipv6hdr);
	struct ipv6hdr ip;
	int fragmented = 0;
	__u8 next;
	int i;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) < 0)
		return -DROP_INVALID_PACKET;
	packet->family = 6;
	__builtin_memcpy(&packet->tuple.source, &ip.saddr, sizeof(struct address));
	__builtin_memcpy(&packet->tuple.destination, &ip.daddr, sizeof(struct address));
	packet->hop_limit = ip.hop_limit;
	next = ip.nexthdr;
	packet->tuple.protocol = next;
	if (ip.version != 6)
		return -DROP_INVALID_PACKET;
	/* An IPv4-mapped address on the wire would take the IPv4 endpoint's place in every map (RFC 4942 §2.2). */
	if ((ip.saddr.s6_addr32[0] | ip.saddr.s6_addr32[1]) == 0 && ip.saddr.s6_addr32[2] == bpf_htonl(0xFFFF))
		return -DROP_INVALID_SOURCE;
	if ((ip.daddr.s6_addr32[0] | ip.daddr.s6_addr32[1]) == 0 && ip.daddr.s6_addr32[2] == bpf_htonl(0xFFFF))
		return -DROP_INVALID_PACKET;
	if (bpf_ntohs(ip.payload_len) + sizeof(ip) > skb->len - ETH_HLEN)
		return -DROP_INVALID_PACKET;
#pragma unroll
	for (i = 0; i <= MAX_EXTENSION_HEADERS; i++) {
		__u8 header[8]; /* next header, length, routing type; of a fragment: -, offset and flags, id */
		__u32 place;

		switch (next) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
		case IPPROTO_AH:
			break;
		case IPPROTO_FRAGMENT:
			if (fragmented)
				return -DROP_INVALID_EXTHDR;
			fragmented = 1;
			break;
		case IPPROTO_NONE:
			return -DROP_INVALID_EXTHDR;
		default:
			packet->tuple.protocol = next;
			return parse_l4(skb, packet, offset);
		}
		if (i == MAX_EXTENSION_HEADERS)
			break;
		if (bpf_skb_load_bytes(skb, offset, header, sizeof(header)) < 0)
			return -DROP_INVALID_PACKET;
		if (next == IPPROTO_ROUTING && header[2] == 0)
			return -DROP_INVALID_EXTHDR; /* RFC 5095: type 0 is forbidden */
		if (next == IPPROTO_FRAGMENT) {
			place = (__u32)header[2] << 8 | header[3]; /* 13 bits, 2 reserved, "more" */
			packet->fragment_id = bpf_ntohl(*(__be32 *)&header[4]);
			packet->fragment_protocol = header[0];
			if (place >> 3)
				return parse_later_fragment(packet, place >> 3);
			if (place & 1) /* RFC 6946: with neither offset nor "more" it is the whole datagram */
				packet->fragment = FRAGMENT_FIRST;
			header[1] = 0; /* here reserved: the header has 8 bytes */
		}
		/* RFC 4302 §2.2: AH counts words of 4 octets, minus 2. */
		offset += next == IPPROTO_AH ? (header[1] + 2) * 4 : (header[1] + 1) * 8;
		next = header[0];
	}
	return -DROP_INVALID_EXTHDR;
}

__noinline int parse_packet(struct __sk_buff *skb, struct packet *packet)
{
	if (!packet)
		return -DROP_INVALID_PACKET;
	__builtin_memset(packet, 0, sizeof(*packet));
	packet->length = skb->len;
	if (skb->vlan_present)
		return -DROP_UNSUPPORTED_L3;
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		return parse_ipv4(skb, packet);
	case bpf_htons(ETH_P_IPV6):
		return parse_ipv6(skb, packet);
	case bpf_htons(ETH_P_ARP):
		return PARSED_ARP;
	default:
		return -DROP_UNSUPPORTED_L3;
	}
}

static __always_inline int is_same_address(const struct address *one, const struct address *other)
{
	return one->word[0] == other->word[0] && one->word[1] == other->word[1] && one->word[2] == other->word[2] &&
	       one->word[3] == other->word[3];
}

static __always_inline int is_link_local(const struct address *address)
{
	return (address->word[0] & bpf_htonl(0xFFC00000)) == bpf_htonl(0xFE800000);
}

static __always_inline int is_link_multicast(const struct address *address)
{
	return (address->word[0] & bpf_htonl(0xFF0F0000)) == bpf_htonl(0xFF020000);
}

static __always_inline int is_unspecified(const struct address *address)
{
	return (address->word[0] | address->word[1] | address->word[2] | address->word[3]) == 0;
}

/* RFC 4861 §7.1: neighbour discovery is valid with hop limit 255 only, so it never crossed a router. */
static __always_inline int is_neighbour_discovery(const struct packet *packet)
{
	return packet->tuple.protocol == IPPROTO_ICMPV6 && packet->hop_limit == 255 && packet->icmp_type >= 133 &&
	       packet->icmp_type <= 136;
}

/* RFC 2710, RFC 3810: listener reports and queries stay on the link. */
static __always_inline int is_listener_discovery(const struct packet *packet)
{
	return packet->tuple.protocol == IPPROTO_ICMPV6 && is_link_multicast(&packet->tuple.destination) &&
	       ((packet->icmp_type >= 130 && packet->icmp_type <= 132) || packet->icmp_type == 143);
}

#endif
