/* SPDX-License-Identifier: PostgreSQL
 *
 * What a client sends: a packet of the startup phase, and behind it messages.
 */
#include "fuzz.h"

#include "pgwire/frame.h"
#include "pgwire/message.h"
#include "pgwire/scram.h"

static void inside(struct slice part, struct slice all)
{
	assert(part.len == 0 || (part.ptr >= all.ptr && part.ptr + part.len <= all.ptr + all.len));
}

static void try_startup(struct slice body)
{
	struct startup st;
	struct slice name, value;
	if (!startup_parse(body, &st))
		return;
	inside(st.user, body);
	inside(st.database, body);
	inside(st.replication, body);
	inside(st.cancel_key, body);
	assert(st.cancel_key.len <= 256);
	if (st.code == PROTOCOL_SSL || st.code == PROTOCOL_GSSENC || st.code == PROTOCOL_CANCEL)
		return;
	int extensions = 0;
	for (struct slice left = st.params; startup_next_param(&left, &name, &value);) {
		inside(name, body);
		inside(value, body);
		extensions += startup_is_extension(name);
	}
	assert(extensions == st.extensions);
}

static void try_scram(const char *mechanism, struct slice first, struct slice last)
{
	static const struct scram_binding binding = {.len = 32};
	struct scram_server s;
	struct buf out;
	uint8_t nonce[SCRAM_NONCE_RAW] = {1};
	buf_init(&out, SCRAM_MESSAGE_MAX);
	scram_server_init(&s, NULL, slice_str("u"));
	scram_server_bind(&s, &binding);
	if (scram_server_first(&s, slice_str(mechanism), first, nonce, &out))
		assert(!scram_server_final(&s, last, &out));
	buf_release(&out);
}

static void try_message(struct slice body)
{
	struct msg_parse p;
	struct msg_bind b;
	struct msg_target t;
	struct slice one, two;
	if (msg_parse_parse(body, &p)) {
		inside(p.name, body);
		inside(p.query, body);
		inside(p.types, body);
		assert(p.types.len == 4 * (size_t)p.type_count);
	}
	if (msg_bind_parse(body, &b))
		inside(b.rest, body);
	if (msg_target_parse(body, &t))
		inside(t.name, body);
	if (msg_query_parse(body, &one))
		assert(one.len + 1 == body.len);
	if (msg_sasl_initial_parse(body, &one, &two)) {
		inside(one, body);
		inside(two, body);
		try_scram(SCRAM_MECHANISM, two, body);
		try_scram(SCRAM_MECHANISM_PLUS, two, body);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size), body;
	struct frame f;
	if (startup_frame(in, &body) == PARSE_OK) {
		assert(body.len <= STARTUP_PACKET_MAX);
		try_startup(body);
		in = slice_from(in, 4 + body.len);
	}
	while (frame_peek(in, &f) == PARSE_OK && frame_complete(&f, in)) {
		try_message(frame_body(&f));
		in = slice_from(in, frame_size(&f));
	}
	return 0;
}
