/* SPDX-License-Identifier: PostgreSQL */
#include "message.h"

#include <assert.h>

#include "reader.h"

/* Protocol 3.0 has keys of 4 bytes, 3.2 of up to 256. */
#define CANCEL_KEY_MIN 4
#define CANCEL_KEY_MAX 256


/* ================= parsing, frontend ================= */

static bool cancel_key_ok(struct slice key)
{
	return key.len >= CANCEL_KEY_MIN && key.len <= CANCEL_KEY_MAX;
}

bool startup_is_extension(struct slice name)
{
	size_t n = sizeof(STARTUP_EXTENSION) - 1;
	return name.len > n && memcmp(name.ptr, STARTUP_EXTENSION, n) == 0;
}

static void startup_note(struct startup *st, struct slice name, struct slice value)
{
	if (slice_eq_str(name, "user"))
		st->user = value;
	else if (slice_eq_str(name, "database"))
		st->database = value;
	else if (slice_eq_str(name, "replication"))
		st->replication = value;
	else if (startup_is_extension(name))
		st->extensions++;
}

/* Name and value pairs, then an empty name as the last byte. */
static bool startup_params_parse(struct reader *r, struct startup *st)
{
	const uint8_t *first = r->at;
	for (;;) {
		const uint8_t *at = r->at;
		struct slice name = reader_cstr(r);
		if (r->bad)
			return false;
		if (name.len == 0) {
			st->params = slice_of(first, (size_t)(at - first));
			return reader_done(r);
		}
		struct slice value = reader_cstr(r);
		startup_note(st, name, value);
	}
}

bool startup_parse(struct slice body, struct startup *out)
{
	struct reader r = reader_of(body);
	*out = (struct startup){.code = reader_u32(&r)};
	switch (out->code) {
	case PROTOCOL_SSL:
	case PROTOCOL_GSSENC:
		return reader_done(&r);
	case PROTOCOL_CANCEL:
		out->cancel_pid = reader_u32(&r);
		out->cancel_key = reader_rest(&r);
		return reader_done(&r) && cancel_key_ok(out->cancel_key);
	}
	if (r.bad || out->code >> 16 != 3)
		return false;
	return startup_params_parse(&r, out);
}

bool startup_next_param(struct slice *params, struct slice *name, struct slice *value)
{
	if (params->len == 0)
		return false;
	struct reader r = reader_of(*params);
	*name = reader_cstr(&r);
	*value = reader_cstr(&r);
	*params = reader_rest(&r);
	return !r.bad;
}

bool msg_parse_parse(struct slice body, struct msg_parse *out)
{
	struct reader r = reader_of(body);
	out->name = reader_cstr(&r);
	out->query = reader_cstr(&r);
	out->type_count = reader_u16(&r);
	out->types = reader_bytes(&r, 4 * (size_t)out->type_count);
	return reader_done(&r);
}

bool msg_bind_parse(struct slice body, struct msg_bind *out)
{
	struct reader r = reader_of(body);
	out->portal = reader_cstr(&r);
	out->statement = reader_cstr(&r);
	out->rest = reader_rest(&r);
	return reader_done(&r);
}

bool msg_target_parse(struct slice body, struct msg_target *out)
{
	struct reader r = reader_of(body);
	out->kind = reader_u8(&r);
	out->name = reader_cstr(&r);
	return reader_done(&r) && (out->kind == 'S' || out->kind == 'P');
}

static bool only_cstr(struct slice body, struct slice *text)
{
	struct reader r = reader_of(body);
	*text = reader_cstr(&r);
	return reader_done(&r);
}

bool msg_query_parse(struct slice body, struct slice *text)
{
	return only_cstr(body, text);
}

bool msg_password_parse(struct slice body, struct slice *text)
{
	return only_cstr(body, text);
}

bool msg_sasl_initial_parse(struct slice body, struct slice *mechanism, struct slice *response)
{
	struct reader r = reader_of(body);
	*mechanism = reader_cstr(&r);
	uint32_t len = reader_u32(&r);
	/* -1: no initial response */
	*response = len == UINT32_MAX ? (struct slice){0} : reader_bytes(&r, len);
	return reader_done(&r);
}

/* ================= parsing, backend ================= */

static void error_field(struct error_fields *out, uint8_t field, struct slice text, bool *has_v)
{
	switch (field) {
	case 'V': /* never translated, unlike 'S' */
		out->severity = text;
		*has_v = true;
		break;
	case 'S':
		if (!*has_v)
			out->severity = text;
		break;
	case 'C':
		out->sqlstate = text.len == 5 ? text : (struct slice){0};
		break;
	case 'M':
		out->message = text;
		break;
	case 'D':
		out->detail = text;
		break;
	case 'H':
		out->hint = text;
		break;
	}
}

bool msg_error_parse(struct slice body, struct error_fields *out)
{
	struct reader r = reader_of(body);
	bool has_v = false;
	*out = (struct error_fields){0};
	for (;;) {
		uint8_t field = reader_u8(&r);
		if (field == 0)
			return reader_done(&r);
		struct slice text = reader_cstr(&r);
		if (r.bad)
			return false;
		error_field(out, field, text, &has_v);
	}
}

bool msg_parameter_status_parse(struct slice body, struct slice *name, struct slice *value)
{
	struct reader r = reader_of(body);
	*name = reader_cstr(&r);
	*value = reader_cstr(&r);
	return reader_done(&r);
}

bool msg_key_data_parse(struct slice body, uint32_t *pid, struct slice *key)
{
	struct reader r = reader_of(body);
	*pid = reader_u32(&r);
	*key = reader_rest(&r);
	return reader_done(&r) && cancel_key_ok(*key);
}

bool msg_command_tag_parse(struct slice body, struct slice *tag)
{
	return only_cstr(body, tag);
}

/* A NULL column has ptr == NULL; an empty one borrows the body with length 0. */
static struct slice reader_column(struct reader *r)
{
	uint32_t len = reader_u32(r);
	return len == UINT32_MAX ? (struct slice){0} : reader_bytes(r, len);
}

static bool data_row_valid(struct slice body)
{
	struct reader r = reader_of(body);
	int count = reader_u16(&r);
	for (int i = 0; i < count && !r.bad; i++)
		reader_column(&r);
	return reader_done(&r);
}

bool msg_data_row_parse(struct slice body, column_fn fn, void *arg)
{
	/* Checked whole before the first call, so that nobody acts on half a malformed row. */
	if (!data_row_valid(body))
		return false;
	struct reader r = reader_of(body);
	int count = reader_u16(&r);
	for (int i = 0; i < count; i++)
		fn(arg, i, reader_column(&r));
	return true;
}

struct pick {
	int index;
	struct slice *value;
	bool found;
};

static void pick_column(void *arg, int index, struct slice value)
{
	struct pick *p = arg;
	if (index == p->index) {
		*p->value = value;
		p->found = true;
	}
}

bool msg_data_row_column(struct slice body, int index, struct slice *value)
{
	struct pick p = {.index = index, .value = value};
	return msg_data_row_parse(body, pick_column, &p) && p.found;
}

/* ================= writing ================= */

size_t message_begin(struct buf *b, uint8_t type)
{
	size_t at = b->len;
	if (type != 0)
		put_u8(b, type);
	put_u32(b, 0); /* filled in by message_end() */
	return at;
}

/* Offset of the length field: the type byte of a startup-phase packet is absent, and its length
 * field, still 0, starts with a byte that is no message type. */
static size_t length_offset(const uint8_t *message)
{
	return message[0] == 0 ? 0 : 1;
}

bool message_end(struct buf *b, size_t at)
{
	assert(at <= b->len);
	if (b->overflow) {
		buf_truncate(b, at); /* half a message must never be sent */
		return false;
	}
	uint8_t *message = b->data + b->start + at;
	size_t skip = length_offset(message);
	size_t len = b->len - at - skip;
	assert(len >= 4);
	if (len - 4 > FRAME_BODY_MAX) {
		b->overflow = true;
		buf_truncate(b, at);
		return false;
	}
	store_be32(message + skip, (uint32_t)len);
	return true;
}

bool put_u8(struct buf *b, uint8_t v)
{
	return buf_append(b, &v, 1);
}

bool put_u16(struct buf *b, uint16_t v)
{
	uint8_t bytes[2];
	store_be16(bytes, v);
	return buf_append(b, bytes, sizeof(bytes));
}

bool put_u32(struct buf *b, uint32_t v)
{
	uint8_t bytes[4];
	store_be32(bytes, v);
	return buf_append(b, bytes, sizeof(bytes));
}

bool put_cstr(struct buf *b, struct slice text)
{
	if (text.len > 0 && memchr(text.ptr, 0, text.len)) {
		/* The rest would be read as the next field: the whole message must be refused. */
		b->overflow = true;
		return false;
	}
	return buf_append(b, text.ptr, text.len) && put_u8(b, 0);
}

static bool put_bytes(struct buf *b, struct slice bytes)
{
	return buf_append(b, bytes.ptr, bytes.len);
}

/* ---- frontend ---- */

static void put_param(struct buf *b, const char *name, struct slice value)
{
	if (value.len == 0)
		return; /* the server's default */
	put_cstr(b, slice_str(name));
	put_cstr(b, value);
}

static bool startup_with(struct buf *b, struct slice user, struct slice database,
                         struct slice application_name, struct slice search_path)
{
	size_t at = message_begin(b, 0);
	put_u32(b, PROTOCOL_3_0);
	put_param(b, "user", user);
	put_param(b, "database", database);
	put_param(b, "application_name", application_name);
	put_param(b, "search_path", search_path);
	put_u8(b, 0);
	return message_end(b, at);
}

bool write_startup(struct buf *b, struct slice user, struct slice database,
                   struct slice application_name)
{
	return startup_with(b, user, database, application_name, (struct slice){0});
}

bool write_startup_fixed_path(struct buf *b, struct slice user, struct slice database,
                              struct slice application_name)
{
	return startup_with(b, user, database, application_name, slice_str("pg_catalog"));
}

bool write_startup_replication(struct buf *b, struct slice user, struct slice application_name)
{
	size_t at = message_begin(b, 0);
	put_u32(b, PROTOCOL_3_0);
	put_param(b, "user", user);
	put_param(b, "replication", slice_str("true"));
	put_param(b, "application_name", application_name);
	put_u8(b, 0);
	return message_end(b, at);
}

bool write_cancel(struct buf *b, uint32_t pid, struct slice key)
{
	size_t at = message_begin(b, 0);
	put_u32(b, PROTOCOL_CANCEL);
	put_u32(b, pid);
	put_bytes(b, key);
	return message_end(b, at);
}

static bool write_empty(struct buf *b, uint8_t type)
{
	return message_end(b, message_begin(b, type));
}

static bool write_bytes(struct buf *b, uint8_t type, struct slice body)
{
	size_t at = message_begin(b, type);
	put_bytes(b, body);
	return message_end(b, at);
}

static bool write_text(struct buf *b, uint8_t type, struct slice text)
{
	size_t at = message_begin(b, type);
	put_cstr(b, text);
	return message_end(b, at);
}

bool write_query(struct buf *b, struct slice text)
{
	return write_text(b, FE_QUERY, text);
}

bool write_parse(struct buf *b, struct slice name, struct slice text, struct slice types_be)
{
	assert(types_be.len % 4 == 0 && types_be.len / 4 <= UINT16_MAX);
	size_t at = message_begin(b, FE_PARSE);
	put_cstr(b, name);
	put_cstr(b, text);
	put_u16(b, (uint16_t)(types_be.len / 4));
	put_bytes(b, types_be);
	return message_end(b, at);
}

bool write_bind_plain(struct buf *b, struct slice portal, struct slice statement,
                      uint16_t result_format)
{
	size_t at = message_begin(b, FE_BIND);
	put_cstr(b, portal);
	put_cstr(b, statement);
	put_u16(b, 0); /* parameter formats */
	put_u16(b, 0); /* parameters */
	put_u16(b, 1); /* one result format, for all columns */
	put_u16(b, result_format);
	return message_end(b, at);
}

bool write_bind_text(struct buf *b, struct slice portal, struct slice statement, struct slice value,
                     uint16_t result_format)
{
	size_t at = message_begin(b, FE_BIND);
	put_cstr(b, portal);
	put_cstr(b, statement);
	put_u16(b, 0); /* parameter formats: text */
	put_u16(b, 1); /* parameters */
	put_u32(b, value.ptr ? (uint32_t)value.len : UINT32_MAX);
	if (value.len)
		put_bytes(b, value);
	put_u16(b, 1); /* one result format, for all columns */
	put_u16(b, result_format);
	return message_end(b, at);
}

bool write_execute(struct buf *b, struct slice portal)
{
	size_t at = message_begin(b, FE_EXECUTE);
	put_cstr(b, portal);
	put_u32(b, 0); /* all rows */
	return message_end(b, at);
}

static bool write_target(struct buf *b, uint8_t type, uint8_t kind, struct slice name)
{
	size_t at = message_begin(b, type);
	put_u8(b, kind);
	put_cstr(b, name);
	return message_end(b, at);
}

bool write_describe(struct buf *b, uint8_t kind, struct slice name)
{
	return write_target(b, FE_DESCRIBE, kind, name);
}

bool write_close(struct buf *b, uint8_t kind, struct slice name)
{
	return write_target(b, FE_CLOSE, kind, name);
}

bool write_sync(struct buf *b)
{
	return write_empty(b, FE_SYNC);
}

bool write_terminate(struct buf *b)
{
	return write_empty(b, FE_TERMINATE);
}

bool write_password(struct buf *b, struct slice text)
{
	return write_text(b, FE_PASSWORD, text);
}

bool write_sasl_initial(struct buf *b, struct slice mechanism, struct slice response)
{
	size_t at = message_begin(b, FE_PASSWORD);
	put_cstr(b, mechanism);
	put_u32(b, (uint32_t)response.len);
	put_bytes(b, response);
	return message_end(b, at);
}

bool write_sasl_response(struct buf *b, struct slice response)
{
	return write_bytes(b, FE_PASSWORD, response);
}

/* ---- backend ---- */

bool write_auth(struct buf *b, uint32_t code, struct slice payload)
{
	size_t at = message_begin(b, BE_AUTHENTICATION);
	put_u32(b, code);
	put_bytes(b, payload);
	return message_end(b, at);
}

bool write_parameter_status(struct buf *b, struct slice name, struct slice value)
{
	size_t at = message_begin(b, BE_PARAMETER_STATUS);
	put_cstr(b, name);
	put_cstr(b, value);
	return message_end(b, at);
}

bool write_key_data(struct buf *b, uint32_t pid, struct slice key)
{
	size_t at = message_begin(b, BE_KEY_DATA);
	put_u32(b, pid);
	buf_append(b, key.ptr, key.len);
	return message_end(b, at);
}

bool write_ready(struct buf *b, uint8_t tx_status)
{
	return write_bytes(b, BE_READY, slice_of(&tx_status, 1));
}

static void put_error_field(struct buf *b, uint8_t field, const char *text)
{
	put_u8(b, field);
	put_cstr(b, slice_str(text));
}

bool write_error(struct buf *b, const char *severity, const char *sqlstate, const char *message,
                 const char *hint)
{
	assert(strlen(sqlstate) == 5);
	bool notice = strcmp(severity, "NOTICE") == 0 || strcmp(severity, "WARNING") == 0;
	size_t at = message_begin(b, notice ? BE_NOTICE : BE_ERROR);
	put_error_field(b, 'S', severity);
	put_error_field(b, 'V', severity);
	put_error_field(b, 'C', sqlstate);
	put_error_field(b, 'M', message);
	if (hint)
		put_error_field(b, 'H', hint);
	put_u8(b, 0);
	return message_end(b, at);
}

bool write_command_complete(struct buf *b, const char *tag)
{
	return write_text(b, BE_COMMAND_COMPLETE, slice_str(tag));
}

/* The length of a value of the type, as pg_type.typlen has it; 65535 is "varies". */
static uint16_t type_length(uint32_t oid)
{
	return oid == OID_INT4 ? 4 : oid == OID_INT8 ? 8 : UINT16_MAX;
}

bool write_row_description(struct buf *b, const char *const *names, int count)
{
	return write_typed_row_description(b, names, NULL, count);
}

bool write_typed_row_description(struct buf *b, const char *const *names, const uint32_t *types,
                                 int count)
{
	assert(count >= 0 && count <= UINT16_MAX);
	size_t at = message_begin(b, BE_ROW_DESCRIPTION);
	put_u16(b, (uint16_t)count);
	for (int i = 0; i < count; i++) {
		put_cstr(b, slice_str(names[i]));
		put_u32(b, 0); /* of no table */
		put_u16(b, 0); /* nor of its column */
		uint32_t type = types ? types[i] : OID_TEXT;
		put_u32(b, type);
		put_u16(b, type_length(type));
		put_u32(b, UINT32_MAX); /* type modifier: none */
		put_u16(b, 0);          /* text format */
	}
	return message_end(b, at);
}

bool write_data_row(struct buf *b, const struct slice *values, int count)
{
	assert(count >= 0 && count <= UINT16_MAX);
	size_t at = message_begin(b, BE_DATA_ROW);
	put_u16(b, (uint16_t)count);
	for (int i = 0; i < count; i++) {
		put_u32(b, values[i].ptr ? (uint32_t)values[i].len : UINT32_MAX);
		put_bytes(b, values[i]);
	}
	return message_end(b, at);
}

uint32_t protocol_spoken(uint32_t version)
{
	return version < PROTOCOL_3_2 ? version : PROTOCOL_3_2;
}

bool write_negotiate(struct buf *b, const struct startup *st)
{
	struct slice params = st->params, name, value;
	size_t at = message_begin(b, BE_NEGOTIATE);
	/* The documentation says "newest minor version", but PostgreSQL sends, and libpq demands, the
	 * whole version number. */
	put_u32(b, protocol_spoken(st->code));
	put_u32(b, (uint32_t)st->extensions);
	while (startup_next_param(&params, &name, &value)) {
		if (startup_is_extension(name))
			put_cstr(b, name);
	}
	return message_end(b, at);
}
