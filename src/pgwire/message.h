/* SPDX-License-Identifier: PostgreSQL
 *
 * The messages Tidemark itself reads or writes, both directions; all others are forwarded by
 * their header. Writers append one whole message to a bounded buffer (base/buf.h) and return
 * false if it does not fit. Parsers borrow the body they are given.
 */
#ifndef TM_PGWIRE_MESSAGE_H
#define TM_PGWIRE_MESSAGE_H

#include "base/buf.h"
#include "frame.h"

/* ---- frontend message types (client to server) ---- */
#define FE_BIND 'B'
#define FE_CLOSE 'C'
#define FE_COPY_DATA 'd'
#define FE_COPY_DONE 'c'
#define FE_COPY_FAIL 'f'
#define FE_DESCRIBE 'D'
#define FE_EXECUTE 'E'
#define FE_FLUSH 'H'
#define FE_FUNCTION_CALL 'F'
#define FE_PARSE 'P'
#define FE_PASSWORD 'p'
#define FE_QUERY 'Q'
#define FE_SYNC 'S'
#define FE_TERMINATE 'X'

/* ---- backend message types (server to client) ---- */
#define BE_AUTHENTICATION 'R'
#define BE_KEY_DATA 'K'
#define BE_BIND_COMPLETE '2'
#define BE_CLOSE_COMPLETE '3'
#define BE_COMMAND_COMPLETE 'C'
#define BE_COPY_DATA 'd'
#define BE_COPY_DONE 'c'
#define BE_COPY_IN 'G'
#define BE_COPY_OUT 'H'
#define BE_COPY_BOTH 'W'
#define BE_DATA_ROW 'D'
#define BE_EMPTY_QUERY 'I'
#define BE_ERROR 'E'
#define BE_FUNCTION_RESULT 'V'
#define BE_NEGOTIATE 'v'
#define BE_NO_DATA 'n'
#define BE_NOTICE 'N'
#define BE_NOTIFICATION 'A'
#define BE_PARAMETER_DESCRIPTION 't'
#define BE_PARAMETER_STATUS 'S'
#define BE_PARSE_COMPLETE '1'
#define BE_PORTAL_SUSPENDED 's'
#define BE_READY 'Z'
#define BE_ROW_DESCRIPTION 'T'

/* ---- startup-phase codes ---- */
#define PROTOCOL_3_0 0x00030000u
#define PROTOCOL_3_2 0x00030002u /* the newest: cancel keys of any length */
#define PROTOCOL_CANCEL 80877102u
#define PROTOCOL_SSL 80877103u
#define PROTOCOL_GSSENC 80877104u

/* Authentication request codes ('R'). */
#define AUTH_OK 0u
#define AUTH_CLEARTEXT 3u
#define AUTH_MD5 5u
#define AUTH_SASL 10u
#define AUTH_SASL_CONTINUE 11u
#define AUTH_SASL_FINAL 12u

/* Transaction status of ReadyForQuery. */
#define TX_IDLE 'I'
#define TX_OPEN 'T'
#define TX_FAILED 'E'

/* ================= parsing, frontend ================= */

struct startup {
	uint32_t code;           /* PROTOCOL_3_0 and up, or one of PROTOCOL_{CANCEL,SSL,GSSENC} */
	struct slice cancel_key; /* of a cancel request, 4..256 bytes; protocol 3.2 makes it variable */
	uint32_t cancel_pid;
	struct slice params; /* "name\0value\0…", validated: pairs, ends with one NUL (not included) */
	/* Of the params; the last one counts, as for the server. Empty if absent. */
	struct slice user, database, replication;
	int extensions; /* how many are named _pq_.something: protocol options */
};
#define STARTUP_EXTENSION "_pq_."

/* `body` as startup_frame() gave it. False: malformed, or a major version that is not 3. */
bool startup_parse(struct slice body, struct startup *out);
/* Walks startup.params: false at the end. */
bool startup_next_param(struct slice *params, struct slice *name, struct slice *value);
bool startup_is_extension(struct slice name);

struct msg_parse {
	struct slice name;
	struct slice query;
	uint16_t type_count;
	struct slice types; /* 4 * type_count bytes, big-endian OIDs */
};
bool msg_parse_parse(struct slice body, struct msg_parse *out);

struct msg_bind {
	struct slice portal;
	struct slice statement;
	struct slice rest; /* formats, values, result formats; checked by the server */
};
/* The names have to be there; the rest may be cut off, of a body that is not all here yet. */
bool msg_bind_parse(struct slice body, struct msg_bind *out);

/* Describe and Close: kind is 'S' or 'P'. */
struct msg_target {
	uint8_t kind;
	struct slice name;
};
bool msg_target_parse(struct slice body, struct msg_target *out);

/* Query: the text without its NUL; false if the NUL is missing or not last. */
bool msg_query_parse(struct slice body, struct slice *text);

/* Password message / cleartext: text without its NUL. */
bool msg_password_parse(struct slice body, struct slice *text);
/* SASLInitialResponse. */
bool msg_sasl_initial_parse(struct slice body, struct slice *mechanism, struct slice *response);

/* ================= parsing, backend ================= */

struct error_fields {
	struct slice severity; /* 'V', else 'S' */
	struct slice sqlstate; /* 'C', 5 bytes, or empty */
	struct slice message;  /* 'M' */
	struct slice detail;
	struct slice hint;
};
bool msg_error_parse(struct slice body, struct error_fields *out);
bool msg_parameter_status_parse(struct slice body, struct slice *name, struct slice *value);
bool msg_key_data_parse(struct slice body, uint32_t *pid, struct slice *key);
/* CommandComplete: the tag without its NUL. */
bool msg_command_tag_parse(struct slice body, struct slice *tag);
/* DataRow: calls back per column; a NULL column has ptr == NULL. False if malformed. */
typedef void (*column_fn)(void *arg, int index, struct slice value);
bool msg_data_row_parse(struct slice body, column_fn fn, void *arg);
/* Column `index` of a DataRow; false if malformed or absent; NULL column gives ptr == NULL. */
bool msg_data_row_column(struct slice body, int index, struct slice *value);

/* ================= writing ================= */

/* Starts a message: type byte (0 for startup-phase packets) and a length to be filled in;
 * returns its offset in the live bytes for message_end(). On overflow the buffer latches it. */
size_t message_begin(struct buf *b, uint8_t type);
bool message_end(struct buf *b, size_t at);
bool put_u8(struct buf *b, uint8_t v);
bool put_u16(struct buf *b, uint16_t v);
bool put_u32(struct buf *b, uint32_t v);
bool put_cstr(struct buf *b, struct slice text); /* adds the NUL; refuses a text with a NUL in it */

/* frontend */
bool write_startup(struct buf *b, struct slice user, struct slice database,
                   struct slice application_name);
/* The same with search_path = pg_catalog: names without a schema mean nothing that a user has made.
 */
bool write_startup_fixed_path(struct buf *b, struct slice user, struct slice database,
                              struct slice application_name);
/* For a connection that takes replication commands and no SQL; it is in no database. */
bool write_startup_replication(struct buf *b, struct slice user, struct slice application_name);
bool write_cancel(struct buf *b, uint32_t pid, struct slice key);
bool write_query(struct buf *b, struct slice text);
bool write_parse(struct buf *b, struct slice name, struct slice text, struct slice types_be);
/* No parameters, all results in binary (1) or text (0). */
bool write_bind_plain(struct buf *b, struct slice portal, struct slice statement,
                      uint16_t result_format);
/* One parameter in text, NULL if value.ptr is; results as above. */
bool write_bind_text(struct buf *b, struct slice portal, struct slice statement, struct slice value,
                     uint16_t result_format);
bool write_execute(struct buf *b, struct slice portal);
bool write_describe(struct buf *b, uint8_t kind, struct slice name);
bool write_close(struct buf *b, uint8_t kind, struct slice name);
bool write_sync(struct buf *b);
bool write_terminate(struct buf *b);
bool write_password(struct buf *b, struct slice text);
bool write_sasl_initial(struct buf *b, struct slice mechanism, struct slice response);
bool write_sasl_response(struct buf *b, struct slice response);

/* backend */
bool write_auth(struct buf *b, uint32_t code, struct slice payload);
bool write_parameter_status(struct buf *b, struct slice name, struct slice value);
/* The key has 4 to 256 bytes; before PROTOCOL_3_2 exactly 4. */
bool write_key_data(struct buf *b, uint32_t pid, struct slice key);
bool write_ready(struct buf *b, uint8_t tx_status);
/* severity: "ERROR", "FATAL", "NOTICE" …; sqlstate: 5 characters; hint may be NULL.
 * NOTICE and WARNING become NoticeResponse, all else ErrorResponse. */
bool write_error(struct buf *b, const char *severity, const char *sqlstate, const char *message,
                 const char *hint);
bool write_command_complete(struct buf *b, const char *tag);
/* Text columns (type OID 25), named by `names`. */
bool write_row_description(struct buf *b, const char *const *names, int count);
/* pg_type.oid of the types of columns. */
#define OID_INT8 20u
#define OID_INT4 23u
#define OID_TEXT 25u
#define OID_NUMERIC 1700u
/* Columns of the types OID_TEXT, OID_INT4, OID_INT8 and OID_NUMERIC, in text format. */
bool write_typed_row_description(struct buf *b, const char *const *names, const uint32_t *types,
                                 int count);
/* values[i].ptr == NULL is SQL NULL. */
bool write_data_row(struct buf *b, const struct slice *values, int count);
/* What is spoken with a client that asked for `version` (3.x). */
uint32_t protocol_spoken(uint32_t version);
/* That, and the client's _pq_. options, none of which is known. */
bool write_negotiate(struct buf *b, const struct startup *st);

#endif
