/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Handing a packet to the proxy: its own socket if it has one, for a SYN a worker's listener, else nobody. */
#ifndef PENSTOCK_PROXY_H
#define PENSTOCK_PROXY_H

#include "policy.h"
#include "sockets.h"

#define LISTENER_ATTEMPTS 16

/* What the proxy must know about a connection, decided here and now. */
static __always_inline int record_connection(struct __sk_buff *skb, const struct packet *packet)
{
	struct connection connection = {};
	struct judgement judged = {};
	struct tuple key = packet->tuple;

	judge(&key, packet->family, &judged);
	connection.source_endpoint = judged.source_endpoint;
	connection.destination_endpoint = judged.destination_endpoint;
	connection.source_identity = judged.source_identity;
	connection.destination_identity = judged.destination_identity;
	connection.flags = judged.redirects;
	connection.ifindex = skb->ifindex;
	return bpf_map_update_elem(&proxy_conns, &key, &connection, BPF_ANY);
}

/* The worker is chosen by the flow's hash; one that is gone leaves an empty slot, and the next one is asked. */
static __always_inline int assign_listener(struct __sk_buff *skb, __u8 family, __u32 workers)
{
	__u32 worker, slot, i;
	struct bpf_sock *listener;
	int error;

	if (!workers || workers > MAX_WORKERS)
		return -DROP_NO_SOCKET;
	worker = bpf_get_hash_recalc(skb) % workers;
	for (i = 0; i < LISTENER_ATTEMPTS; i++) {
		slot = worker * 2 + (family == 6);
		listener = bpf_map_lookup_elem(&proxy_sockets, &slot);
		if (listener) {
			error = bpf_sk_assign(skb, listener, 0);
			bpf_sk_release(listener);
			return error ? -DROP_SOCKET_ASSIGN : TO_PROXY;
		}
		worker = worker + 1 == workers ? 0 : worker + 1;
	}
	return -DROP_NO_SOCKET;
}

__noinline int to_proxy(struct __sk_buff *skb, const struct packet *packet, __u32 workers)
{
	struct bpf_sock *socket;
	int error;

	if (!packet)
		return -DROP_INVALID_PACKET;
	socket = find_socket(skb, packet);
	if (socket) {
		if (is_ours(socket, packet)) {
			error = bpf_sk_assign(skb, socket, 0);
			bpf_sk_release(socket);
			return error ? -DROP_SOCKET_ASSIGN : TO_PROXY;
		}
		bpf_sk_release(socket);
	}
	if (packet->role != ROLE_OPENS)
		return -DROP_NO_SOCKET;
	if (record_connection(skb, packet))
		return -DROP_NO_SOCKET;
	return assign_listener(skb, packet->family, workers);
}

#endif
