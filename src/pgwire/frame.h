/* SPDX-License-Identifier: PostgreSQL
 *
 * Framing of protocol 3: a type byte, then a big-endian length that counts itself, then the body.
 * Startup-phase packets have no type byte. Sans-I/O: these functions look at bytes and say what
 * is there; "partial" is a normal answer. Every byte is hostile: a length out of bounds is INVALID.
 * PostgreSQL documentation, "Frontend/Backend Protocol", "Message Formats".
 */
#ifndef TM_PGWIRE_FRAME_H
#define TM_PGWIRE_FRAME_H

#include "base/slice.h"

enum parse_result { PARSE_OK, PARSE_PARTIAL, PARSE_INVALID };

#define FRAME_HEADER 5
/* PostgreSQL's own limit of a message body: MaxAllocSize, 1 GiB - 1 (PQ_LARGE_MESSAGE_LIMIT). */
#define FRAME_BODY_MAX 0x3fffffffu
/* Before authentication a client may not make us hold more (PG: MAX_STARTUP_PACKET_LENGTH). */
#define STARTUP_PACKET_MAX 10000u

struct frame {
	uint8_t type;
	uint32_t body_len;   /* without type and length field */
	const uint8_t *body; /* borrows the input; may be cut short if the input is */
};

static inline uint32_t load_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint16_t load_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint64_t load_be64(const uint8_t *p)
{
	return (uint64_t)load_be32(p) << 32 | load_be32(p + 4);
}

static inline void store_be32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

static inline void store_be16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* Reads only the header: OK says type and body_len are known; the body may not be all there.
 * PARTIAL: fewer than FRAME_HEADER bytes. INVALID: length < 4 or > FRAME_BODY_MAX. */
static inline enum parse_result frame_peek(struct slice in, struct frame *out)
{
	if (in.len < FRAME_HEADER)
		return PARSE_PARTIAL;
	uint32_t len = load_be32(in.ptr + 1);
	if (len < 4 || len - 4 > FRAME_BODY_MAX)
		return PARSE_INVALID;
	*out = (struct frame){.type = in.ptr[0], .body_len = len - 4, .body = in.ptr + FRAME_HEADER};
	return PARSE_OK;
}

/* Header and body together, in bytes. */
static inline size_t frame_size(const struct frame *f)
{
	return (size_t)FRAME_HEADER + f->body_len;
}

static inline bool frame_complete(const struct frame *f, struct slice in)
{
	return in.len >= frame_size(f);
}

static inline struct slice frame_body(const struct frame *f)
{
	return slice_of(f->body, f->body_len);
}

/* One untyped startup-phase packet (length, code, body). On OK `*body` starts at the code and
 * borrows `in`; consume 4 + body->len bytes. INVALID: length < 8 or > STARTUP_PACKET_MAX. */
enum parse_result startup_frame(struct slice in, struct slice *body);

#endif
