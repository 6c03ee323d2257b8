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

	/* A datagram without a socket may be a late answer, which is nobody's. */
	if (judge(&key, packet->family, 0, 0, &judged) <= 0 && key.protocol == IPPROTO_UDP)
		return -1;
	connection.source_endpoint = judged.source_endpoint;
	connection.destination_endpoint = judged.destination_endpoint;
	connection.source_identity = judged.source_identity;
	connection.destination_identity = judged.destination_identity;
	connection.flags = judged.redirects;
	connection.ifindex = skb->ifindex;
	return bpf_map_update_elem(&proxy_conns, &key, &connection, BPF_ANY);
}

static __always_inline int is_same_tuple(const struct tuple *one, const struct tuple *other)
{
	int i;

	for (i = 0; i < 4; i++)
		if (one->source.word[i] != other->source.word[i] || one->destination.word[i] != other->destination.word[i])
			return 0;
	return one->source_port == other->source_port && one->destination_port == other->destination_port &&
	       one->protocol == other->protocol;
}

/* A socket in TIME_WAIT stands in the way of a new connection on the same ports. Only the stack may end it, and does
 * so if the SYN is newer (RFC 6191); then it looks for a listener, and choose_listener() tells it ours.
 */
static __always_inline int offer_listener(const struct packet *packet, __u32 slot)
{
	__u32 zero = 0;
	struct reopening *reopening = bpf_map_lookup_elem(&reopenings, &zero);

	if (!reopening)
		return -DROP_NO_SOCKET;
	reopening->tuple = packet->tuple;
	reopening->slot = slot;
	reopening->is_set = 1;
	return TO_PROXY;
}

/* The worker is chosen by the flow's hash; one that is gone leaves an empty slot, and the next one is asked. */
static __always_inline int assign_listener(struct __sk_buff *skb, const struct packet *packet, __u32 workers,
					   int reopens)
{
	__u32 worker, slot, i;
	struct bpf_sock *listener;
	int error;

	if (!workers || workers > MAX_WORKERS)
		return -DROP_NO_SOCKET;
	worker = bpf_get_hash_recalc(skb) % workers;
	for (i = 0; i < LISTENER_ATTEMPTS; i++) {
		slot = worker * 2 + (packet->family == 6);
		if (packet->tuple.protocol == IPPROTO_UDP)
			slot += MAX_WORKERS * 2;
		listener = bpf_map_lookup_elem(&proxy_sockets, &slot);
		if (listener) {
			if (reopens) {
				bpf_sk_release(listener);
				return offer_listener(packet, slot);
			}
			error = bpf_sk_assign(skb, listener, 0);
			bpf_sk_release(listener);
			return error ? -DROP_SOCKET_ASSIGN : TO_PROXY;
		}
		worker = worker + 1 == workers ? 0 : worker + 1;
	}
	return -DROP_NO_SOCKET;
}

/* To the socket that asked, or as a question to a worker. Nothing that the stack puts together itself: it would give a
 * question to whoever on the node listens on that port.
 */
static __always_inline int datagram_to_proxy(struct __sk_buff *skb, const struct packet *packet, __u32 workers)
{
	struct bpf_sock *socket = find_datagram_socket(skb, packet->family, &packet->tuple);
	int error = 0;

	if (socket) {
		if (!packet->fragment)
			error = bpf_sk_assign(skb, socket, 0);
		bpf_sk_release(socket);
		return error ? -DROP_SOCKET_ASSIGN : TO_PROXY;
	}
	if (packet->fragment)
		return -DROP_FRAGMENT;
	if (record_connection(skb, packet))
		return -DROP_NO_SOCKET;
	return assign_listener(skb, packet, workers, 0);
}

__noinline int to_proxy(struct __sk_buff *skb, const struct packet *packet, __u32 workers)
{
	struct bpf_sock *socket;
	int error, reopens = 0;

	if (!packet)
		return -DROP_INVALID_PACKET;
	if (packet->tuple.protocol == IPPROTO_UDP)
		return datagram_to_proxy(skb, packet, workers);
	/* The stack finds the socket by itself: of a segment when it is put together, of an error by what it quotes. */
	if (packet->role == ROLE_ERROR || packet->fragment)
		return packet->role == ROLE_OPENS ? -DROP_FRAGMENT : TO_PROXY;
	socket = find_socket(skb, packet);
	if (socket) {
		reopens = socket->state == SOCKET_TIME_WAIT;
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
	return assign_listener(skb, packet, workers, reopens);
}

#endif
