/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Address -> identity, by longest prefix. */
#ifndef PENSTOCK_IPCACHE_H
#define PENSTOCK_IPCACHE_H

#include "maps.h"

static __always_inline __u32 identity_of(const struct address *address, __u8 family)
{
	struct ipcache_key key = { .prefix = 128, .address = *address };
	__u32 *identity = bpf_map_lookup_elem(&ipcache, &key);

	if (identity)
		return *identity;
	return family == 4 ? IDENTITY_WORLD_IPV4 : IDENTITY_WORLD_IPV6;
}

#endif
