/* SPDX-License-Identifier: PostgreSQL
 *
 * What a server sends while the router logs in: one byte for the kind of secret and the channel
 * binding, then messages. Each of them is also read as an answer to a statement.
 */
#include "fuzz.h"

#include "pgwire/login.h"
#include "pgwire/message.h"

static void nothing(void *arg, int index, struct slice value)
{
	int *last = arg;
	assert(index == *last + 1);
	*last = index;
}

static void try_answer(struct slice body)
{
	struct error_fields e;
	struct slice one, two;
	uint32_t pid;
	int last = -1;
	(void)msg_error_parse(body, &e);
	(void)msg_parameter_status_parse(body, &one, &two);
	(void)msg_command_tag_parse(body, &one);
	if (msg_key_data_parse(body, &pid, &one))
		assert(one.len <= 256);
	bool row = msg_data_row_parse(body, nothing, &last);
	assert(msg_data_row_column(body, last, &one) == (row && last >= 0));
}

static void try_login(struct slice in, uint8_t kind)
{
	static const uint8_t random[SCRAM_NONCE_RAW] = "seventeen letters";
	static const char *const secrets[] = {[SECRET_NONE] = "",
	                                      [SECRET_PLAIN] = "secret",
	                                      [SECRET_MD5] = "md5a0b1c2d3e4f5a0b1c2d3e4f5a0b1c2d3"};
	enum secret_kind k = kind % 3;
	struct login l;
	struct frame f;
	struct buf out;
	enum login_step step = LOGIN_MORE;
	buf_init(&out, 4096);
	bool started = login_start(&l, slice_str("user"), slice_str("db"), slice_str("tidemark"), k,
	                           slice_str(secrets[k]), &out);
	assert(started);
	const struct scram_binding binding = {.len = kind / 9 % 2 ? 32 : 0};
	login_bind(&l, (enum channel_binding)(kind / 3 % 3), &binding);
	while (step == LOGIN_MORE && frame_peek(in, &f) == PARSE_OK && frame_complete(&f, in)) {
		buf_reset(&out);
		step = login_feed(&l, &f, random, &out);
		assert(step != LOGIN_MORE || !out.overflow);
		in = slice_from(in, frame_size(&f));
	}
	assert(step != LOGIN_FAILED || l.error[0] != '\0');
	assert(step != LOGIN_DONE || l.channel_binding != CHANNEL_BINDING_REQUIRE);
	login_release(&l);
	buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice in = slice_of(data, size);
	struct frame f;
	uint8_t kind = fuzz_byte(&in);
	try_login(in, kind);
	while (frame_peek(in, &f) == PARSE_OK && frame_complete(&f, in)) {
		try_answer(frame_body(&f));
		in = slice_from(in, frame_size(&f));
	}
	return 0;
}
