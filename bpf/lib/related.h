/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* ICMP errors: they pass with the flow of the packet that they quote (RFC 792, RFC 4443 §2.4), if that is a known one. */
#ifndef PENSTOCK_RELATED_H
#define PENSTOCK_RELATED_H

#include "parse.h"

#define ICMP_HEADER 8
#define NOT_RELATED 2 /* no verdict: the error is judged for itself */

/* The quoted packet's tuple, as its sender sent it. 0 if it can be read. */
static __always_inline int parse_quoted(struct __sk_buff *skb, const struct packet *packet, struct tuple *quoted)
{
	__u32 offset = packet->offset + ICMP_HEADER;
	__be16 words[4];

	if (packet->family == 4) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)) < 0)
			return -1;
		if (ip.version != 4 || ip.ihl < 5 || ip.frag_off & bpf_htons(IP_FRAGMENT_OFFSET))
			return -1;
		map_ipv4(&quoted->source, ip.saddr);
		map_ipv4(&quoted->destination, ip.daddr);
		quoted->protocol = ip.protocol;
		offset += ip.ihl * 4;
	} else {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)) < 0)
			return -1;
		if (ip.version != 6)
			return -1;
		__builtin_memcpy(&quoted->source, &ip.saddr, sizeof(struct address));
		__builtin_memcpy(&quoted->destination, &ip.daddr, sizeof(struct address));
		quoted->protocol = ip.nexthdr; /* an extension header is no protocol that a flow has */
		offset += sizeof(ip);
	}
	if (bpf_skb_load_bytes(skb, offset, words, sizeof(words)) < 0)
		return -1;
	switch (quoted->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		quoted->source_port = words[0];
		quoted->destination_port = words[1];
		return 0;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		quoted->source_port = words[2]; /* the identifier of an echo; other types have no flow to find */
		quoted->destination_port = words[2];
		return 0;
	default:
		return -1;
	}
}

#endif
