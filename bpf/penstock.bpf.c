/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The programs on a packet's way. Everything here runs in the node's network namespace.
 *
 *   pod A --veth--> from_pod --> routing --> to_pod --veth--> pod B
 *                      |           |           | wants the proxy: only TC ingress can give a packet a socket
 *                      v           |           v
 *                 proxy's socket <-|-- from_bounce (penstock0)
 *                                  v           ^
 *                               to_world ------'    (uplinks; only of packets to services is anything asked there)
 *
 * A plain pass is TC_ACT_UNSPEC, so that filters of others behind ours still see the packet.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "include/penstock.h"
#include "lib/maps.h"
#include "lib/parse.h"
#include "lib/ipcache.h"
#include "lib/policy.h"
#include "lib/events.h"
#include "lib/sockets.h"
#include "lib/ct.h"
#include "lib/proxy.h"
#include "lib/reset.h"

#define PASS TC_ACT_UNSPEC
#define AF_INET 2 /* <sys/socket.h> is not for the kernel */
#define PACKET_HOST 0 /* <linux/if_packet.h> needs it */

/* Keeps types in the object's BTF that no outer map names: libbpf needs the policy's, the loader compares all. */
const struct event *event_anchor __attribute__((unused));
const struct policy_key *policy_key_anchor __attribute__((unused));
const struct policy_value *policy_value_anchor __attribute__((unused));

static __always_inline struct config *get_config(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&config, &zero);
}

__noinline int drop(struct __sk_buff *skb, const struct packet *packet, struct judgement *judged, int verdict,
			   __u32 direction)
{
	if (!packet || !judged)
		return TC_ACT_SHOT;
	/* Known flows are dropped without asking the policy; the record still names who is who. */
	if (packet->family && !judged->source_identity) {
		struct tuple asked = packet->tuple;

		asked.destination_port = packet->policy_port;
		judge(&asked, packet->family, packet->origin, packet->receiver, judged);
		judged->rule[INGRESS] = 0;
		judged->rule[EGRESS] = 0;
		judged->direction = direction;
	} else if (judged->verdict != verdict) {
		judged->direction = direction;
	}
	count(-verdict, judged->direction, packet->length);
	emit(skb, packet, judged, EVENT_DROP, verdict);
	return TC_ACT_SHOT;
}

static __always_inline int pass(const struct packet *packet, __u8 direction)
{
	count(0, direction, packet->length);
	return PASS;
}

/* RFC 826: who asks or answers must be the endpoint itself; 0.0.0.0 is a probe (RFC 5227). */
__noinline int check_arp(struct __sk_buff *skb, __u32 id)
{
	struct {
		__be16 hardware, protocol;
		__u8 hardware_length, protocol_length;
		__be16 operation;
		__u8 sender[ETH_ALEN];
		__u8 sender_address[4];
	} __attribute__((packed)) arp;
	struct endpoint *owner;
	struct address address;
	__be32 ipv4;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &arp, sizeof(arp)) < 0)
		return -DROP_INVALID_PACKET;
	if (arp.protocol != bpf_htons(ETH_P_IP) || arp.hardware_length != ETH_ALEN || arp.protocol_length != 4)
		return -DROP_INVALID_PACKET;
	__builtin_memcpy(&ipv4, arp.sender_address, sizeof(ipv4));
	if (!ipv4)
		return 0;
	map_ipv4(&address, ipv4);
	owner = bpf_map_lookup_elem(&endpoints, &address);
	return owner && owner->id == id ? 0 : -DROP_INVALID_SOURCE;
}

/* What keeps the pod's own link working: neighbour discovery with the node, and listener reports. */
__noinline int is_link_upkeep(const struct packet *packet, int own_source)
{
	const struct address *source, *destination;

	if (!packet)
		return 0;
	source = &packet->tuple.source;
	destination = &packet->tuple.destination;
	if (!own_source && !is_link_local(source) && !is_unspecified(source))
		return 0;
	if (is_listener_discovery(packet))
		return 1;
	return is_neighbour_discovery(packet) && (is_link_local(destination) || is_link_multicast(destination) ||
						  identity_of(destination, 6) == IDENTITY_HOST);
}

/* What becomes of a refused packet: nothing, or the end of its connection at both ends. `back_to`: see reset.h. The
 * packet's own receiver gets its reset the way the packet itself was going.
 */
static __always_inline int refuse(struct __sk_buff *skb, const struct packet *packet, struct judgement *judged,
				  int verdict, __u8 direction, __u32 back_to, __u64 back_flags)
{
	__u32 resets = judged->resets;

	drop(skb, packet, judged, verdict, direction);
	if (!resets || settings.silent || packet->fragment || packet->tcp_flags & TCP_RST)
		return -1;
	return reset_connection(skb, packet, resets, back_to, back_flags);
}

/* Whether the packet's source is an address of the endpoint that is behind the interface. */
static __always_inline int is_own(const struct interface *interface, const struct address *source)
{
	struct endpoint *owner;

	if (is_same_address(source, &interface->own[0]) || is_same_address(source, &interface->own[1]))
		return 1;
	owner = bpf_map_lookup_elem(&endpoints, source);
	return owner && owner->id == interface->id;
}

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	struct config *config = get_config();
	struct judgement judged = {};
	__u32 ifindex = skb->ifindex;
	struct interface *interface;
	struct packet packet = {};
	int verdict, own;
	__u32 epoch;

	skb->mark = 0; /* not the pod's to set */
	verdict = parse_packet(skb, &packet);
	if (!config)
		return TC_ACT_SHOT;
	epoch = config->epoch; /* before any policy is read: a verdict is never newer than it says */
	interface = bpf_map_lookup_elem(&endpoints_by_if, &ifindex);
	if (!interface)
		return drop(skb, &packet, &judged, -DROP_NOT_READY, EGRESS);
	if (verdict == PARSED_ARP) {
		verdict = check_arp(skb, interface->id);
		return verdict < 0 ? drop(skb, &packet, &judged, verdict, EGRESS) : pass(&packet, EGRESS);
	}
	if (verdict < 0)
		return drop(skb, &packet, &judged, verdict, EGRESS);
	own = is_own(interface, &packet.tuple.source);
	if (packet.tuple.protocol == IPPROTO_ICMPV6 && is_link_upkeep(&packet, own))
		return pass(&packet, EGRESS);
	if (!own)
		return drop(skb, &packet, &judged, -DROP_INVALID_SOURCE, EGRESS);
	packet.is_from_pod = 1;
	verdict = track(skb, &packet, epoch, &judged);
	if (verdict == ALLOW) {
		if (packet.fragment == FRAGMENT_FIRST)
			remember_fragment(&packet);
		if (judged.to_service)
			skb->mark = MARK_SERVICE | interface->id << MARK_ORIGIN_SHIFT;
		return pass(&packet, EGRESS);
	}
	if (verdict < 0) {
		verdict = refuse(skb, &packet, &judged, verdict, EGRESS, ifindex, 0);
		if (verdict < 0)
			return TC_ACT_SHOT;
		skb->mark = MARK_RESET;
		if (verdict == ALLOW)
			return PASS;
	} else if (packet.fragment == FRAGMENT_FIRST) {
		remember_fragment(&packet);
	}
	/* For a pod behind a bridge the frame may be addressed to another port of it, past the node's own stack. */
	if (skb->pkt_type != PACKET_HOST && config->bounce_ifindex) {
		skb->mark = MARK_TO_PROXY;
		return bpf_redirect(config->bounce_ifindex, BPF_F_INGRESS);
	}
	verdict = to_proxy(skb, &packet, config->workers);
	if (verdict < 0)
		return drop(skb, &packet, &judged, verdict, EGRESS);
	skb->mark = MARK_TO_PROXY;
	count(0, EGRESS, packet.length);
	return TC_ACT_OK;
}

/* A packet that the node has routed, and whose destination it has translated if it does that. */
static __always_inline int judge_routed(struct __sk_buff *skb, struct packet *packet, struct judgement *judged,
					struct config *config, __u8 direction)
{
	int verdict;

	if ((skb->mark & MARK_MASK) == MARK_SERVICE)
		packet->origin = skb->mark >> MARK_ORIGIN_SHIFT;
	verdict = track(skb, packet, config->epoch, judged);
	if (!config->bounce_ifindex && verdict)
		return drop(skb, packet, judged, verdict < 0 ? verdict : -DROP_NO_SOCKET, direction);
	if (verdict < 0) {
		verdict = refuse(skb, packet, judged, verdict, direction, config->bounce_ifindex, BPF_F_INGRESS);
		if (verdict < 0)
			return TC_ACT_SHOT;
		skb->mark = MARK_RESET;
		if (verdict == ALLOW)
			return PASS;
	} else {
		if (packet->fragment == FRAGMENT_FIRST)
			remember_fragment(packet);
		if (verdict == ALLOW)
			return pass(packet, direction);
	}
	skb->mark = MARK_TO_PROXY | MARK_UNTRACKED;
	return bpf_redirect(config->bounce_ifindex, BPF_F_INGRESS);
}

SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	struct config *config = get_config();
	struct judgement judged = {};
	struct packet packet = {};
	__u32 mark = skb->mark & MARK_MASK, ifindex = skb->ifindex;
	struct interface *interface;
	int verdict;

	verdict = parse_packet(skb, &packet);
	if (!config)
		return TC_ACT_SHOT;
	interface = bpf_map_lookup_elem(&endpoints_by_if, &ifindex);
	if (!interface)
		return drop(skb, &packet, &judged, -DROP_NOT_READY, INGRESS);
	packet.receiver = interface->id;
	if (verdict == PARSED_ARP || mark == MARK_RESET)
		return pass(&packet, INGRESS);
	if (mark == MARK_FROM_PROXY) {
		if (verdict >= 0 && !packet.fragment)
			track_from_proxy(&packet);
		return pass(&packet, INGRESS);
	}
	if (verdict < 0)
		return drop(skb, &packet, &judged, verdict, INGRESS);
	/* With hop limit 255 it comes from the node itself: no router forwards it so. */
	if (is_neighbour_discovery(&packet) || is_listener_discovery(&packet))
		return pass(&packet, INGRESS);
	return judge_routed(skb, &packet, &judged, config, INGRESS);
}

/* On every other way out of the node: only for what from_pod has left to be judged. */
SEC("tc")
int to_world(struct __sk_buff *skb)
{
	struct config *config = get_config();
	struct judgement judged = {};
	struct packet packet = {};
	int verdict;

	if ((skb->mark & MARK_MASK) != MARK_SERVICE)
		return PASS;
	verdict = parse_packet(skb, &packet);
	if (!config || verdict == PARSED_ARP)
		return TC_ACT_SHOT;
	if (verdict < 0)
		return drop(skb, &packet, &judged, verdict, EGRESS);
	return judge_routed(skb, &packet, &judged, config, EGRESS);
}

/* Only our own programs send here: what is for the proxy, resets that must find their way back, and through penstock1
 * what is for the node itself by way of a service, judged there by to_world.
 */
SEC("tc")
int from_bounce(struct __sk_buff *skb)
{
	struct config *config = get_config();
	struct judgement judged = {};
	struct packet packet = {};
	__u32 mark = skb->mark & MARK_MASK;
	int verdict;

	verdict = parse_packet(skb, &packet);
	if (!config || verdict == PARSED_ARP || (mark != MARK_TO_PROXY && mark != MARK_RESET && mark != MARK_SERVICE))
		return TC_ACT_SHOT;
	if (verdict >= 0 && mark == MARK_TO_PROXY)
		verdict = to_proxy(skb, &packet, config->workers);
	if (verdict < 0)
		return drop(skb, &packet, &judged, verdict, INGRESS);
	/* The frame carries the pod's hardware address, so the stack would take it for somebody else's. */
	bpf_skb_change_type(skb, PACKET_HOST);
	if (mark == MARK_SERVICE)
		skb->mark = MARK_UNTRACKED;
	count(0, INGRESS, packet.length);
	return TC_ACT_OK;
}

#ifdef STAMP
/* What this object was made from; bpf/build.py reads it back. */
const char _stamp[] SEC("penstock.stamp") = STAMP;
#endif

/* Where the stack looks for a listener: only for the very SYN that to_proxy() has just let through on this CPU. */
SEC("sk_lookup")
int choose_listener(struct bpf_sk_lookup *lookup)
{
	/* Read as written: the verifier takes no pointer into the context that the compiler has put together. */
	volatile const struct bpf_sk_lookup *context = lookup;
	struct reopening *reopening;
	struct bpf_sock *listener;
	struct tuple tuple = {};
	__u32 zero = 0, slot, remote_ip4, local_ip4;
	int error, i;

	reopening = bpf_map_lookup_elem(&reopenings, &zero);
	if (!reopening || !reopening->is_set)
		return SK_PASS;
	tuple.protocol = context->protocol;
	tuple.source_port = context->remote_port;
	tuple.destination_port = bpf_htons(context->local_port);
	/* Fields of the other family read as zero. */
	remote_ip4 = context->remote_ip4;
	local_ip4 = context->local_ip4;
	for (i = 0; i < 4; i++) {
		tuple.source.word[i] = context->remote_ip6[i];
		tuple.destination.word[i] = context->local_ip6[i];
	}
	if (context->family == AF_INET) {
		map_ipv4(&tuple.source, remote_ip4);
		map_ipv4(&tuple.destination, local_ip4);
	}
	if (!is_same_tuple(&tuple, &reopening->tuple))
		return SK_PASS;
	reopening->is_set = 0;
	slot = reopening->slot;
	listener = bpf_map_lookup_elem(&proxy_sockets, &slot);
	if (!listener)
		return SK_DROP;
	error = bpf_sk_assign(lookup, listener, 0);
	bpf_sk_release(listener);
	return error ? SK_DROP : SK_PASS;
}

char _license[] SEC("license") = "GPL";
