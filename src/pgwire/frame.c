/* SPDX-License-Identifier: PostgreSQL */
#include "frame.h"

enum parse_result startup_frame(struct slice in, struct slice *body)
{
	if (in.len < 4)
		return PARSE_PARTIAL;
	uint32_t len = load_be32(in.ptr);
	if (len < 8 || len > STARTUP_PACKET_MAX)
		return PARSE_INVALID;
	if (in.len < len)
		return PARSE_PARTIAL;
	*body = slice_of(in.ptr + 4, len - 4);
	return PARSE_OK;
}
