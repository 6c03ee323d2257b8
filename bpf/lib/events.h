/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Telling userspace: counters for every packet, records for drops and for the first packet of a flow. */
#ifndef PENSTOCK_EVENTS_H
#define PENSTOCK_EVENTS_H

#include "maps.h"
#include "parse.h"
#include "policy.h"

#define WAKE_UP_AT 262144 /* bytes: a quarter of the ring, if that is not made smaller */

static __always_inline void count(__u32 reason, __u8 direction, __u32 length)
{
	__u32 index = (reason & 0xFF) * 2 + (direction & 1);
	struct metric *metric = bpf_map_lookup_elem(&metrics, &index);

	if (!metric)
		return;
	metric->packets++;
	metric->bytes += length;
}

/* A flood of drops must not take the CPU from traffic: so many records per window, the rest only counted.
 * The first quarter of them is anybody's; the others are for drops, which no flood of connections may hide.
 */
static __always_inline struct event *reserve_event(__u64 now, __u32 type)
{
	__u32 zero = 0;
	struct events_budget *budget = bpf_map_lookup_elem(&events_budget, &zero);
	struct event *event;

	if (!budget)
		return 0;
	if (budget->window != now >> 27) {
		budget->window = now >> 27;
		budget->left = settings.events_per_window;
	}
	if (!budget->left || (type == EVENT_VERDICT && budget->left <= settings.events_per_window / 4 * 3)) {
		budget->rate_limited++;
		return 0;
	}
	budget->left--;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		budget->ring_full++;
	return event;
}

/* `judged` says who is who, which direction decided, and whether a refusal is only reported. */
__noinline int emit(struct __sk_buff *skb, const struct packet *packet, const struct judgement *judged, __u32 type,
		    __s32 verdict)
{
	__u64 now = bpf_ktime_get_ns();
	struct event *event;

	if (!packet || !judged)
		return 0;
	event = reserve_event(now, type);
	if (!event)
		return 0;
	event->time_ns = now;
	event->tuple = packet->tuple;
	event->verdict = verdict;
	event->source_endpoint = judged->source_endpoint;
	event->destination_endpoint = judged->destination_endpoint;
	event->source_identity = judged->source_identity;
	event->destination_identity = judged->named ? judged->named : judged->destination_identity;
	event->rule[INGRESS] = judged->rule[INGRESS];
	event->rule[EGRESS] = judged->rule[EGRESS];
	event->ifindex = skb->ifindex;
	event->length = packet->length;
	event->type = type;
	event->direction = judged->direction;
	event->family = packet->family;
	event->flags = type == EVENT_VERDICT && judged->audited ? EVENT_AUDIT : 0;
	event->tcp_flags = packet->tcp_flags;
	event->icmp_type = packet->icmp_type;
	event->icmp_code = packet->icmp_code;
	event->pad[0] = 0;
	/* Waking a reader up costs more than all of this. It looks by itself, often enough; only a lot must not wait. */
	bpf_ringbuf_submit(event, bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > WAKE_UP_AT ? BPF_RB_FORCE_WAKEUP
											     : BPF_RB_NO_WAKEUP);
	return 0;
}

#endif
