/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The proxy's sockets: finding the one that owns a packet, and which sockets are the proxy's at all. */
#ifndef PENSTOCK_SOCKETS_H
#define PENSTOCK_SOCKETS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "parse.h"

/* include/net/tcp_states.h */
#define SOCKET_ESTABLISHED 1 /* of datagrams: connected */
#define SOCKET_TIME_WAIT 6
#define SOCKET_LISTEN 10
#define SOCKET_NEW_SYN_RECV 12

/* What the packet's own tuple finds in this network namespace. The caller releases it. */
static __always_inline struct bpf_sock *find_socket(struct __sk_buff *skb, const struct packet *packet)
{
	struct bpf_sock_tuple tuple = {};

	if (packet->family == 4) {
		tuple.ipv4.saddr = packet->tuple.source.word[3];
		tuple.ipv4.daddr = packet->tuple.destination.word[3];
		tuple.ipv4.sport = packet->tuple.source_port;
		tuple.ipv4.dport = packet->tuple.destination_port;
		return bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	__builtin_memcpy(tuple.ipv6.saddr, &packet->tuple.source, sizeof(tuple.ipv6.saddr));
	__builtin_memcpy(tuple.ipv6.daddr, &packet->tuple.destination, sizeof(tuple.ipv6.daddr));
	tuple.ipv6.sport = packet->tuple.source_port;
	tuple.ipv6.dport = packet->tuple.destination_port;
	return bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
}

/* The proxy's socket towards a server, if the datagram is for one. Only those are connected, and have the proxy's mark:
 * what it binds for clients' datagrams is found by no address. The caller releases it.
 */
static __always_inline struct bpf_sock *find_datagram_socket(struct __sk_buff *skb, __u8 family,
							    const struct tuple *datagram)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *socket;

	if (family == 4) {
		tuple.ipv4.saddr = datagram->source.word[3];
		tuple.ipv4.daddr = datagram->destination.word[3];
		tuple.ipv4.sport = datagram->source_port;
		tuple.ipv4.dport = datagram->destination_port;
		socket = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, &datagram->source, sizeof(tuple.ipv6.saddr));
		__builtin_memcpy(tuple.ipv6.daddr, &datagram->destination, sizeof(tuple.ipv6.daddr));
		tuple.ipv6.sport = datagram->source_port;
		tuple.ipv6.dport = datagram->destination_port;
		socket = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!socket)
		return 0;
	if ((socket->mark & MARK_MASK) == MARK_FROM_PROXY && socket->state == SOCKET_ESTABLISHED)
		return socket;
	bpf_sk_release(socket);
	return 0;
}

/* A lookup also finds sockets of others: a listener on any address of the node, a service of the host.
 * A full socket shows the proxy's mark. The kernel lets us read nothing but the state of a half-open one, so that
 * one counts if we handed its SYN over; one in TIME_WAIT takes no data, whosever it is.
 */
static __always_inline int is_ours(struct bpf_sock *socket, const struct packet *packet)
{
	struct bpf_sock *full;

	switch (socket->state) {
	case SOCKET_LISTEN:
		return 0;
	case SOCKET_NEW_SYN_RECV:
		return bpf_map_lookup_elem(&proxy_conns, &packet->tuple) != 0;
	case SOCKET_TIME_WAIT:
		/* A new connection on the same ports belongs to a listener. */
		return packet->role != ROLE_OPENS;
	default:
		full = bpf_sk_fullsock(socket);
		return full && (full->mark & MARK_MASK) == MARK_FROM_PROXY;
	}
}

#endif
