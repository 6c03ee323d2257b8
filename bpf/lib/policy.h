/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The verdict on a flow: what the rules of both its ends say, as far as they live on this node.
 * Convention: > 0 to the proxy, 0 allow, < 0 the negated drop reason.
 */
#ifndef PENSTOCK_POLICY_H
#define PENSTOCK_POLICY_H

#include <linux/in.h>

#include "ipcache.h"

#define TO_PROXY 1
#define ALLOW 0

enum resets {
	RESET_NONE = 0,
	RESET_DIRECT, /* both ends of the connection */
	RESET_PROXIED, /* the client, and the proxy's socket for the client */
};

struct judgement {
	__s32 verdict;
	__u32 source_endpoint;
	__u32 destination_endpoint;
	__u32 source_identity;
	__u32 destination_identity;
	__u32 rule[2]; /* by direction */
	__s32 audited; /* the refusal that is only reported: of an endpoint in audit mode, of rules tried out; else 0 */
	__u32 redirects; /* CONNECTION_* */
	__u32 named; /* the group of names whose row decided; 0 = none */
	__u8 direction; /* that decided */
	__u8 resets; /* RESET_*: how to end the connection that this packet belongs to */
	__u8 to_service; /* only its real destination will be judged */
	__u8 elsewhere; /* the destination's address is no endpoint's of this node */
};

/* Which of two entries decides. `one` counts if they are equals. */
static __always_inline struct policy_value *stronger(struct policy_value *one, struct policy_value *other)
{
	if (!one || !other)
		return one ? one : other;
	if (other->verdict != one->verdict)
		return other->verdict > one->verdict ? other : one;
	return other->prefix > one->prefix ? other : one;
}

/* Names are about servers elsewhere: one that points at a pod, a node or a service opens nothing. */
static __always_inline int is_outside(__u32 identity)
{
	return identity == IDENTITY_WORLD || identity == IDENTITY_WORLD_IPV4 || identity == IDENTITY_WORLD_IPV6 ||
	       (identity >= IDENTITY_FIRST_CIDR && identity < IDENTITY_FIRST_NAMED);
}

static __always_inline struct names_value *names_of(__u32 endpoint, const struct address *address)
{
	__u32 zero = 0;
	struct names_key *key = bpf_map_lookup_elem(&names_keys, &zero);

	if (!key)
		return 0;
	key->endpoint = endpoint;
	key->address = *address;
	return bpf_map_lookup_elem(&names, key);
}

/* One direction of one endpoint. Order of decision: deny > redirect > allow > none, whichever of the entries says it;
 * between equals the narrower one names the rule, and the peer's own before the one for anybody, and both before those
 * of names. `audited` is the deny rule that is only tried out, if an entry names one.
 */
static __always_inline int judge_side(const struct endpoint *endpoint, __u8 direction, __u32 peer, __u8 protocol,
				      __be16 port, struct names_value *opened, __u32 *rule, __u32 *audited,
				      __u32 *named)
{
	struct policy_key key = {
		.prefix = 64, .identity = peer, .direction = direction, .protocol = protocol, .port = port
	};
	struct policy_value *own, *any, *value, *other;
	__u32 policy_id = endpoint->policy_id;
	void *trie;
	int i;

	*rule = 0;
	*audited = 0;
	trie = bpf_map_lookup_elem(&policy, &policy_id);
	if (!trie)
		return -DROP_POLICY;
	own = bpf_map_lookup_elem(trie, &key);
	key.identity = 0;
	any = bpf_map_lookup_elem(trie, &key);
	value = stronger(own, any);
	*audited = own && own->audited ? own->audited : any ? any->audited : 0;
	for (i = 0; opened && i < NAME_SLOTS; i++) {
		key.identity = opened->slots[i].identity;
		if (!key.identity)
			continue;
		other = bpf_map_lookup_elem(trie, &key);
		if (other && stronger(value, other) == other) {
			value = other;
			*named = key.identity;
		}
	}
	if (!value)
		return -DROP_POLICY;
	*rule = value->rule;
	switch (value->verdict) {
	case POLICY_NONE:
		return -DROP_POLICY;
	case POLICY_ALLOW:
		return ALLOW;
	case POLICY_REDIRECT:
		/* What rules want inspected never passes uninspected. */
		return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP ? TO_PROXY : -DROP_PROXY_PROTOCOL;
	default:
		return -DROP_POLICY_DENY;
	}
}

static __always_inline void judge_direction(const struct endpoint *endpoint, __u8 direction, __u32 peer, __u8 protocol,
					    __be16 port, struct names_value *opened, struct judgement *out)
{
	__u32 flags = endpoint->flags, rule = 0, tried = 0;
	int verdict, audited = 0;

	if (!(flags & (direction == EGRESS ? ENDPOINT_ENFORCE_EGRESS : ENDPOINT_ENFORCE_INGRESS)))
		return;
	verdict = judge_side(endpoint, direction, peer, protocol, port, opened, &rule, &tried, &out->named);
	/* Of a direction that is only tried out nothing but a real deny rule refuses. */
	if (verdict < 0 && verdict != -DROP_POLICY_DENY &&
	    flags & (direction == EGRESS ? ENDPOINT_TRY_EGRESS : ENDPOINT_TRY_INGRESS)) {
		audited = verdict;
		verdict = ALLOW;
	}
	if (verdict >= 0 && tried) {
		audited = -DROP_POLICY_DENY;
		rule = tried;
	}
	if (verdict < 0 && flags & ENDPOINT_AUDIT) {
		audited = verdict;
		verdict = ALLOW;
	}
	out->rule[direction] = rule;
	if (verdict > 0)
		out->redirects |= direction == EGRESS ? CONNECTION_EGRESS : CONNECTION_INGRESS;
	/* What is told of a packet is its refusal, then the first that is only reported, then who wants the proxy. */
	if (verdict < 0 || (!out->audited && (audited || verdict > out->verdict)))
		out->direction = direction;
	if (!out->audited)
		out->audited = audited;
	if (verdict < 0 || verdict > out->verdict)
		out->verdict = verdict;
}

/* `tuple` as the initiator sent it, with the policy's port for destination port. `origin`: the endpoint that sent it,
 * where the node may have put its own address in place of the endpoint's; else 0. `receiver`: the endpoint at whose
 * interface it is, where it may be sent to an address that is no endpoint's (a multicast group, say); else 0.
 */
__noinline int judge(const struct tuple *tuple, __u32 family, __u32 origin, __u32 receiver, struct judgement *out)
{
	struct endpoint *source, *destination;
	struct names_value *opened = 0;
	int cannot_proxy = 0;

	if (!tuple || !out)
		return -DROP_INVALID_PACKET;
	__builtin_memset(out, 0, sizeof(*out));
	source = bpf_map_lookup_elem(&endpoints, &tuple->source);
	if (!source && origin) {
		source = bpf_map_lookup_elem(&endpoints_by_id, &origin);
		cannot_proxy = -DROP_NAT_NO_MAPPING; /* it would take the node for the client */
	}
	destination = bpf_map_lookup_elem(&endpoints, &tuple->destination);
	out->elsewhere = !destination;
	if (!destination && receiver) {
		destination = bpf_map_lookup_elem(&endpoints_by_id, &receiver);
		cannot_proxy = -DROP_NO_SOCKET; /* it would not know the server */
	}
	out->source_endpoint = source ? source->id : 0;
	out->destination_endpoint = destination ? destination->id : 0;
	out->source_identity = source ? source->identity : identity_of(&tuple->source, family);
	out->destination_identity = destination ? destination->identity : identity_of(&tuple->destination, family);
	out->direction = source ? EGRESS : INGRESS;
	/* Who talks to itself, by way of a service, needs nobody's leave. */
	if (source && destination && source->id == destination->id)
		return ALLOW;
	if (source && source->flags & ENDPOINT_NAMES && !destination && is_outside(out->destination_identity))
		opened = names_of(source->id, &tuple->destination);
	if (source)
		judge_direction(source, EGRESS, out->destination_identity, tuple->protocol, tuple->destination_port,
				opened, out);
	if (destination && out->verdict >= 0)
		judge_direction(destination, INGRESS, out->source_identity, tuple->protocol, tuple->destination_port, 0,
				out);
	if (out->verdict > 0 && cannot_proxy)
		out->verdict = cannot_proxy;
	return out->verdict;
}

#endif
