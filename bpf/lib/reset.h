/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Ending a TCP connection whose permission is withdrawn: the packet that meets the new verdict is made into a reset for
 * its receiver, and a copy of it into one for its sender.
 *
 * RFC 9293 §3.5.2: the sender gets the number that it acknowledged, which is the next it expects; the receiver gets the
 * number of the segment. If segments were under way, an end answers with a challenge (RFC 5961 §3.2), meets us again,
 * and that time the numbers are right.
 */
#ifndef PENSTOCK_RESET_H
#define PENSTOCK_RESET_H

#include "parse.h"
#include "policy.h"
#include "proxy.h"

struct reset {
	__be32 sequence;
	__be32 acknowledged;
	__u8 backward; /* to the packet's sender */
	__u8 flags;
	__u8 pad[2];
};

struct reset_tcp {
	__be16 source_port;
	__be16 destination_port;
	__be32 sequence;
	__be32 acknowledged;
	__u8 length;
	__u8 flags;
	__be16 window;
	__sum16 checksum;
	__be16 urgent;
};

static __always_inline __sum16 fold(__u32 sum)
{
	sum = (sum & 0xFFFF) + (sum >> 16);
	sum = (sum & 0xFFFF) + (sum >> 16);
	return (__sum16)~sum;
}

static __always_inline int write_ipv4(struct __sk_buff *skb, const struct address *source,
				      const struct address *destination)
{
	struct iphdr ip = {
		.version = 4,
		.ihl = 5,
		.tot_len = bpf_htons(sizeof(ip) + sizeof(struct reset_tcp)),
		.frag_off = bpf_htons(0x4000),
		.ttl = 64,
		.protocol = IPPROTO_TCP,
		.saddr = source->word[3],
		.daddr = destination->word[3],
	};

	ip.check = fold(bpf_csum_diff(0, 0, (__be32 *)&ip, sizeof(ip), 0));
	return bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM);
}

static __always_inline int write_ipv6(struct __sk_buff *skb, const struct address *source,
				      const struct address *destination)
{
	struct ipv6hdr ip = {
		.version = 6,
		.payload_len = bpf_htons(sizeof(struct reset_tcp)),
		.nexthdr = IPPROTO_TCP,
		.hop_limit = 64,
	};

	__builtin_memcpy(&ip.saddr, source, sizeof(ip.saddr));
	__builtin_memcpy(&ip.daddr, destination, sizeof(ip.daddr));
	return bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM);
}

static __always_inline int swap_hardware_addresses(struct __sk_buff *skb)
{
	__u8 addresses[2][ETH_ALEN];

	if (bpf_skb_load_bytes(skb, 0, addresses, sizeof(addresses)) < 0)
		return -1;
	if (bpf_skb_store_bytes(skb, 0, addresses[1], ETH_ALEN, 0))
		return -1;
	return bpf_skb_store_bytes(skb, ETH_ALEN, addresses[0], ETH_ALEN, 0);
}

/* Makes the frame into the reset; 0 if that worked. */
__noinline int shape_reset(struct __sk_buff *skb, const struct packet *packet, const struct reset *reset)
{
	const struct address *source, *destination;
	struct reset_tcp tcp = {};
	__u32 offset, sum;
	struct {
		__be32 length;
		__be32 protocol;
	} pseudo = { bpf_htonl(sizeof(tcp)), bpf_htonl(IPPROTO_TCP) };

	if (!packet || !reset)
		return -1;
	offset = ETH_HLEN + (packet->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));
	source = reset->backward ? &packet->tuple.destination : &packet->tuple.source;
	destination = reset->backward ? &packet->tuple.source : &packet->tuple.destination;
	tcp.source_port = reset->backward ? packet->tuple.destination_port : packet->tuple.source_port;
	tcp.destination_port = reset->backward ? packet->tuple.source_port : packet->tuple.destination_port;
	tcp.sequence = reset->sequence;
	tcp.acknowledged = reset->acknowledged;
	tcp.length = sizeof(tcp) / 4 << 4;
	tcp.flags = reset->flags;
	if (bpf_skb_change_tail(skb, offset + sizeof(tcp), 0))
		return -1;
	if (reset->backward && swap_hardware_addresses(skb))
		return -1;
	if (packet->family == 4 ? write_ipv4(skb, source, destination) : write_ipv6(skb, source, destination))
		return -1;
	if (bpf_skb_store_bytes(skb, offset, &tcp, sizeof(tcp), BPF_F_RECOMPUTE_CSUM))
		return -1;
	/* RFC 9293 §3.1. In two steps: of a frame whose checksum a device is still to complete, the field holds the sum
	 * of the pseudo header alone, and the kernel keeps track of that. A mapped IPv4 address would add 0xFFFF twice,
	 * which is nothing in this arithmetic.
	 */
	sum = bpf_csum_diff(0, 0, (__be32 *)source, sizeof(*source), 0);
	sum = bpf_csum_diff(0, 0, (__be32 *)destination, sizeof(*destination), sum);
	sum = bpf_csum_diff(0, 0, (__be32 *)&pseudo, sizeof(pseudo), sum);
	offset += __builtin_offsetof(struct reset_tcp, checksum);
	if (bpf_l4_csum_replace(skb, offset, 0, sum, BPF_F_PSEUDO_HDR))
		return -1;
	sum = bpf_csum_diff(0, 0, (__be32 *)&tcp, sizeof(tcp), 0);
	return bpf_l4_csum_replace(skb, offset, 0, sum, 0);
}

/* `back_to`: interface, and flags for its side, through which the sender is reached. What the packet has become stays
 * in `skb`: 0 if it is to go on, TO_PROXY if to the proxy's socket, < 0 if it is of no use.
 */
__noinline int reset_connection(struct __sk_buff *skb, const struct packet *packet, __u32 resets, __u32 back_to,
				__u64 back_flags)
{
	struct reset reset = {};
	__be32 numbers[2];
	__u32 ip_length;

	if (!packet)
		return -1;
	ip_length = packet->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);

	/* Behind extension headers, or without an acknowledgement, there is nobody that a reset could help. */
	if (packet->offset != ETH_HLEN + ip_length || !(packet->tcp_flags & TCP_ACK))
		return -1;
	if (bpf_skb_load_bytes(skb, packet->offset + 4, numbers, sizeof(numbers)) < 0)
		return -1;
	reset.backward = 1;
	reset.flags = TCP_RST;
	reset.sequence = numbers[1];
	if (shape_reset(skb, packet, &reset))
		return -1;
	skb->mark = MARK_RESET;
	bpf_clone_redirect(skb, back_to, back_flags);
	reset.backward = 0;
	reset.flags = TCP_RST | TCP_ACK;
	reset.sequence = numbers[0];
	reset.acknowledged = numbers[1];
	/* The other way round again: shape_reset() swaps nothing for this one. */
	if (swap_hardware_addresses(skb) || shape_reset(skb, packet, &reset))
		return -1;
	return resets == RESET_PROXIED ? TO_PROXY : 0;
}

#endif
