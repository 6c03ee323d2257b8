/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Flows: one lookup per packet in the steady state, and never a packet on a verdict older than the policy.
 *
 * An entry holds the verdict on the flow as its initiator began it, and the policy epoch of that verdict. A packet of
 * either direction that meets an older epoch has the flow judged again first, so a withdrawn permission bites at the
 * next packet whoever sends it. The entry then stays, with a negative verdict: otherwise the next packet of the
 * responder, who may well be permitted to open flows of its own, would bring the flow back with the roles swapped.
 *
 * Who began a flow is believed only of packets that say so. A TCP SYN or an ICMP echo request is always judged with
 * its sender as initiator, also against the direction of a known flow. Any other TCP segment without an entry (a flow
 * older than the programs, or evicted) proves nothing about who began it, so it passes only if both directions would
 * be permitted. An echo reply or other ICMP without an entry is judged for itself and leaves no entry.
 * Hence eviction can end a flow, but never permit one.
 *
 * A pod's packet to an address that the node translates (a service) has no destination yet that could be judged. It is
 * marked, and judged by to_pod or to_world, where it has one; its own entry only lets the answers back in. Who carries
 * the mark was its flow's initiator, so of such packets that is believed.
 *
 * Datagrams have no state but this. A flow of them may change between the proxy and the direct way with the policy, and
 * one that is refused is asked for anew with each datagram of its initiator: a name may have opened it since.
 */
#ifndef PENSTOCK_CT_H
#define PENSTOCK_CT_H

#include "events.h"
#include "related.h"
#include "sockets.h"

static __always_inline __u32 coarse_now(void)
{
	return bpf_ktime_get_coarse_ns() >> 30;
}

/* The key of both directions. Returns 1 if the sender is the high side. */
static __always_inline int order_tuple(const struct tuple *tuple, struct tuple *key)
{
	int high = 0;
	int i;

	for (i = 0; i < 4; i++) {
		if (tuple->source.word[i] != tuple->destination.word[i]) {
			high = bpf_ntohl(tuple->source.word[i]) > bpf_ntohl(tuple->destination.word[i]);
			goto decided;
		}
	}
	high = bpf_ntohs(tuple->source_port) > bpf_ntohs(tuple->destination_port);
decided:
	__builtin_memset(key, 0, sizeof(*key));
	key->source = high ? tuple->destination : tuple->source;
	key->destination = high ? tuple->source : tuple->destination;
	key->source_port = high ? tuple->destination_port : tuple->source_port;
	key->destination_port = high ? tuple->source_port : tuple->destination_port;
	key->protocol = tuple->protocol;
	return high;
}

static __always_inline int is_expired(const struct ct_value *flow, __u8 protocol, __u32 now)
{
	__u32 limit = settings.udp_timeout;

	if (protocol == IPPROTO_TCP) {
		limit = settings.tcp_timeout;
		if (flow->flags & CT_CLOSED)
			limit = settings.tcp_closed_timeout;
		else if (!(flow->flags & CT_REPLIED))
			limit = settings.tcp_opening_timeout;
	}
	return now - flow->last_seen > limit;
}

static __always_inline __u32 next_flags(__u32 flags, const struct packet *packet, int sender_high)
{
	if (sender_high != !!(flags & CT_INITIATOR_HIGH))
		flags |= CT_REPLIED;
	if (packet->tcp_flags & TCP_FIN)
		flags |= sender_high ? CT_FIN_HIGH : CT_FIN_LOW;
	if (packet->tcp_flags & TCP_RST || (flags & (CT_FIN_LOW | CT_FIN_HIGH)) == (CT_FIN_LOW | CT_FIN_HIGH))
		flags |= CT_CLOSED;
	return flags;
}

/* Writes only what changed: most packets of a flow leave its cache line alone. */
static __always_inline void touch(struct ct_value *flow, const struct packet *packet, int sender_high, __u32 now)
{
	__u32 flags = next_flags(flow->flags, packet, sender_high);

	if (flow->flags != flags)
		flow->flags = flags;
	if (flow->last_seen != now)
		flow->last_seen = now;
}

/* The flow's tuple as its initiator sends it, the policy's port for destination port. */
static __always_inline void initiator_tuple(const struct packet *packet, int from_initiator, struct tuple *asked)
{
	__builtin_memset(asked, 0, sizeof(*asked));
	asked->protocol = packet->tuple.protocol;
	if (from_initiator) {
		asked->source = packet->tuple.source;
		asked->destination = packet->tuple.destination;
		asked->destination_port = packet->policy_port;
	} else {
		asked->source = packet->tuple.destination;
		asked->destination = packet->tuple.source;
		asked->destination_port = packet->tuple.source_port;
		if (packet->tuple.protocol == IPPROTO_ICMP)
			asked->destination_port = bpf_htons(ICMP_ECHO);
		else if (packet->tuple.protocol == IPPROTO_ICMPV6)
			asked->destination_port = bpf_htons(ICMPV6_ECHO_REQUEST);
	}
}

/* A flow whose initiator nobody saw: permitted if either side may have begun it, and without the proxy. `asked` is room
 * for a tuple: the stack is short.
 */
static __always_inline int judge_midstream(const struct packet *packet, struct tuple *asked, struct judgement *judged)
{
	int verdict, backward;

	initiator_tuple(packet, 0, asked);
	backward = judge(asked, packet->family, 0, 0, judged);
	initiator_tuple(packet, 1, asked);
	verdict = judge(asked, packet->family, 0, packet->receiver, judged);
	if (verdict < 0)
		return verdict;
	if (verdict == ALLOW)
		verdict = backward;
	if (verdict > 0)
		verdict = -DROP_NO_SOCKET;
	judged->verdict = verdict;
	return verdict;
}

static __always_inline int is_service(const struct address *address, __u8 family)
{
	return identity_of(address, family) == IDENTITY_SERVICE;
}

/* A TCP connection whose permission is gone shall not hang until its ends lose patience. */
static __always_inline void note_reset(const struct packet *packet, __u32 flags, int verdict, struct judgement *judged)
{
	if (verdict < 0 && packet->tuple.protocol == IPPROTO_TCP && packet->role == ROLE_CONTINUES)
		judged->resets = flags & CT_PROXIED ? RESET_PROXIED : RESET_DIRECT;
}

/* The policy changed under a known flow. */
__noinline int judge_again(const struct packet *packet, const struct ct_value *known, __u32 epoch,
			   struct judgement *judged)
{
	struct tuple asked = {}, key;
	struct ct_value next;
	int verdict, sender_high, from_initiator;

	if (!packet || !known || !judged)
		return -DROP_INVALID_PACKET;
	sender_high = order_tuple(&packet->tuple, &key);
	next = *known;
	next.flags = next_flags(next.flags, packet, sender_high);
	next.last_seen = coarse_now();
	next.epoch = epoch;
	from_initiator = sender_high == !!(next.flags & CT_INITIATOR_HIGH);
	initiator_tuple(packet, from_initiator, &asked);
	if (next.flags & CT_SERVICE && is_service(&asked.destination, packet->family)) {
		verdict = ALLOW;
	} else if (next.flags & CT_MIDSTREAM) {
		verdict = judge_midstream(packet, &asked, judged);
	} else {
		next.flags &= ~CT_SERVICE;
		verdict = judge(&asked, packet->family, next.origin, from_initiator ? packet->receiver : 0, judged);
		if (packet->tuple.protocol == IPPROTO_UDP)
			; /* each datagram goes the way that the policy in force wants */
		else if (next.verdict > 0 && verdict >= 0)
			verdict = TO_PROXY; /* its socket holds the flow; the proxy knows the new policy too */
		else if (next.verdict <= 0 && verdict > 0)
			verdict = -DROP_NO_SOCKET; /* too late to inspect: the proxy never saw the beginning */
	}
	if (next.verdict > 0 && verdict < 0)
		next.flags |= CT_PROXIED;
	next.flags &= ~CT_ELSEWHERE;
	next.flags |= judged->elsewhere ? CT_ELSEWHERE : 0;
	next.verdict = verdict;
	next.rule[INGRESS] = judged->rule[INGRESS];
	next.rule[EGRESS] = judged->rule[EGRESS];
	bpf_map_update_elem(&ct, &key, &next, BPF_ANY);
	note_reset(packet, next.flags, verdict, judged);
	return verdict;
}

/* A datagram that may be a server's answer to the proxy, or a segment from the middle of a connection that may be the
 * proxy's: then only its socket may have it.
 */
__noinline int is_proxied(struct __sk_buff *skb, const struct packet *packet)
{
	struct bpf_sock *socket;
	int found;

	if (!packet)
		return 0;
	if (packet->tuple.protocol == IPPROTO_UDP) {
		socket = find_datagram_socket(skb, packet->family, &packet->tuple);
		if (!socket)
			return 0;
		bpf_sk_release(socket);
		return 1;
	}
	if (packet->tuple.protocol != IPPROTO_TCP || packet->role == ROLE_OPENS)
		return 0;
	socket = find_socket(skb, packet);
	if (!socket)
		return 0;
	found = socket->state != SOCKET_TIME_WAIT && is_ours(socket, packet);
	bpf_sk_release(socket);
	return found;
}

__noinline int new_flow(struct __sk_buff *skb, const struct packet *packet, __u32 epoch,
			       struct judgement *judged)
{
	struct ct_value flow = {};
	struct tuple key = {}, asked = {};
	int sender_high, verdict;

	if (!packet || !judged)
		return -DROP_INVALID_PACKET;
	sender_high = order_tuple(&packet->tuple, &key);
	flow.flags = sender_high ? CT_INITIATOR_HIGH : 0;
	flow.epoch = epoch;
	flow.last_seen = coarse_now();
	flow.origin = packet->origin;
	if (packet->tuple.protocol == IPPROTO_UDP && is_proxied(skb, packet)) {
		/* The proxy began it, in the name of the receiver. */
		flow.flags = (sender_high ? 0 : CT_INITIATOR_HIGH) | CT_UPSTREAM | CT_REPLIED;
		flow.verdict = TO_PROXY;
		bpf_map_update_elem(&ct, &key, &flow, BPF_ANY);
		return TO_PROXY;
	}
	if (packet->role == ROLE_CONTINUES && packet->tuple.protocol == IPPROTO_TCP) {
		if (is_proxied(skb, packet)) {
			/* Without a record it is a leg that the proxy opened, so nothing to judge. With one it is
			 * the client's leg: epoch 0 has it judged at its next packet.
			 */
			if (bpf_map_lookup_elem(&proxy_conns, &packet->tuple))
				flow.epoch = 0;
			else
				flow.flags |= CT_UPSTREAM;
			flow.flags |= CT_REPLIED;
			flow.verdict = TO_PROXY;
			bpf_map_update_elem(&ct, &key, &flow, BPF_ANY);
			return TO_PROXY;
		}
		flow.flags |= CT_REPLIED;
	}
	initiator_tuple(packet, 1, &asked);
	if (packet->is_from_pod && is_service(&asked.destination, packet->family)) {
		flow.flags |= CT_SERVICE;
		bpf_map_update_elem(&ct, &key, &flow, BPF_ANY);
		judged->to_service = 1;
		return ALLOW;
	}
	if (flow.flags & CT_REPLIED && !packet->origin) {
		flow.flags |= CT_MIDSTREAM;
		verdict = judge_midstream(packet, &asked, judged);
	} else {
		verdict = judge(&asked, packet->family, packet->origin, packet->receiver, judged);
		if (flow.flags & CT_REPLIED && verdict > 0)
			verdict = -DROP_NO_SOCKET;
	}
	if (verdict < 0) {
		if (verdict == -DROP_NO_SOCKET)
			judged->resets = RESET_DIRECT;
		return verdict;
	}
	flow.verdict = verdict;
	flow.rule[INGRESS] = judged->rule[INGRESS];
	flow.rule[EGRESS] = judged->rule[EGRESS];
	flow.flags |= judged->elsewhere ? CT_ELSEWHERE : 0;
	/* What several pods may get (multicast) is judged for each of them, every time. */
	if (!(judged->elsewhere && packet->receiver) &&
	    (packet->role == ROLE_ANY || packet->role == ROLE_OPENS || flow.flags & CT_REPLIED))
		bpf_map_update_elem(&ct, &key, &flow, BPF_ANY);
	emit(skb, packet, judged, EVENT_VERDICT, judged->audited ? judged->audited : verdict);
	return verdict;
}

/* The verdict of the flow that an ICMP error is about; the receiver of the error must be who sent what it quotes. */
__noinline int track_error(struct __sk_buff *skb, const struct packet *packet, __u32 epoch)
{
	struct tuple quoted = {}, key;
	struct bpf_sock *socket;
	struct ct_value *flow;

	if (!packet || parse_quoted(skb, packet, &quoted))
		return NOT_RELATED;
	if (!is_same_address(&quoted.source, &packet->tuple.destination))
		return NOT_RELATED;
	if (packet->is_from_pod && !is_same_address(&quoted.destination, &packet->tuple.source))
		return NOT_RELATED;
	order_tuple(&quoted, &key);
	flow = bpf_map_lookup_elem(&ct, &key);
	if (!flow && quoted.protocol == IPPROTO_UDP) {
		/* A server's answer to the proxy would make a flow; this says that there will be none. */
		key.source = quoted.destination;
		key.destination = quoted.source;
		key.source_port = quoted.destination_port;
		key.destination_port = quoted.source_port;
		socket = find_datagram_socket(skb, packet->family, &key);
		if (!socket)
			return NOT_RELATED;
		bpf_sk_release(socket);
		return TO_PROXY;
	}
	if (!flow || is_expired(flow, quoted.protocol, coarse_now()))
		return NOT_RELATED;
	/* Not yet judged by the policy in force: that is left to the flow's own packets. */
	if (flow->epoch != epoch && !(flow->flags & CT_UPSTREAM))
		return NOT_RELATED;
	return flow->verdict;
}

/* A packet of the initiator's that a known flow does not speak for. */
static __always_inline int begins_anew(const struct packet *packet, const struct ct_value *flow)
{
	if (flow->flags & CT_ELSEWHERE && packet->receiver)
		return 1;
	/* A pod uses the very ports that the proxy uses in its name, or has been refused. */
	return packet->role == ROLE_ANY && (flow->verdict < 0 || (flow->flags & CT_UPSTREAM && packet->is_from_pod));
}

/* The verdict on a packet. `judged` is filled in if the policy had to be asked, else all zero. */
static __always_inline int track(struct __sk_buff *skb, const struct packet *packet, __u32 epoch,
				 struct judgement *judged)
{
	struct ct_value *flow;
	struct tuple key = {};
	int sender_high, verdict;
	__u32 now;

	if (packet->role == ROLE_ERROR && !packet->fragment) {
		verdict = track_error(skb, packet, epoch);
		return verdict == NOT_RELATED ? new_flow(skb, packet, epoch, judged) : verdict;
	}
	if (packet->role == ROLE_SINGLE || packet->role == ROLE_ERROR)
		return new_flow(skb, packet, epoch, judged);
	sender_high = order_tuple(&packet->tuple, &key);
	flow = bpf_map_lookup_elem(&ct, &key);
	if (!flow)
		return new_flow(skb, packet, epoch, judged);
	now = coarse_now();
	if (is_expired(flow, packet->tuple.protocol, now))
		return new_flow(skb, packet, epoch, judged);
	if (packet->role == ROLE_OPENS &&
	    (sender_high != !!(flow->flags & CT_INITIATOR_HIGH) || flow->verdict < 0 ||
	     flow->flags & (CT_CLOSED | CT_MIDSTREAM | CT_UPSTREAM)))
		return new_flow(skb, packet, epoch, judged);
	if (sender_high == !!(flow->flags & CT_INITIATOR_HIGH) && begins_anew(packet, flow))
		return new_flow(skb, packet, epoch, judged);
	/* Routed, and still to the service: nobody has translated it, so it is judged as what it is. */
	if (flow->flags & CT_SERVICE && packet->origin) {
		initiator_tuple(packet, 1, &key);
		return judge(&key, packet->family, 0, packet->receiver, judged);
	}
	judged->to_service = flow->flags & CT_SERVICE && sender_high == !!(flow->flags & CT_INITIATOR_HIGH);
	if (flow->epoch == epoch || flow->flags & CT_UPSTREAM) {
		touch(flow, packet, sender_high, now);
		note_reset(packet, flow->flags, flow->verdict, judged);
		return flow->verdict;
	}
	return judge_again(packet, flow, epoch, judged);
}

/* A packet that the proxy sent to a pod. Sees to it that the pod's answers find their way to the proxy's socket. */
__noinline int track_from_proxy(const struct packet *packet)
{
	struct ct_value *known, flow = {};
	struct tuple key, client = {};
	int sender_high;
	__u32 now;

	if (!packet)
		return 0;
	if (packet->tuple.protocol != IPPROTO_TCP && packet->tuple.protocol != IPPROTO_UDP)
		return 0;
	now = coarse_now();
	sender_high = order_tuple(&packet->tuple, &key);
	known = bpf_map_lookup_elem(&ct, &key);
	/* Only a SYN may take the place of another flow, and a withdrawn one stays so while the proxy says good-bye. */
	if (known && (known->verdict > 0 || packet->role != ROLE_OPENS)) {
		touch(known, packet, sender_high, now);
		return 0;
	}
	flow.verdict = TO_PROXY;
	flow.last_seen = now;
	flow.flags = CT_UPSTREAM | (sender_high ? CT_INITIATOR_HIGH : 0);
	client.source = packet->tuple.destination;
	client.destination = packet->tuple.source;
	client.source_port = packet->tuple.destination_port;
	client.destination_port = packet->tuple.source_port;
	client.protocol = packet->tuple.protocol;
	/* The client's leg, its entry evicted: the receiver began it. Epoch 0 has it judged at its next packet. */
	if (packet->role != ROLE_OPENS && bpf_map_lookup_elem(&proxy_conns, &client))
		flow.flags = CT_REPLIED | (sender_high ? 0 : CT_INITIATOR_HIGH);
	bpf_map_update_elem(&ct, &key, &flow, BPF_ANY);
	return 0;
}

#endif
