/* SPDX-License-Identifier: PostgreSQL
 *
 * The unit of judgement: what is routed together. Cuts the client's bytes and unites the traits of
 * the statements in it. Has no effect but on the statement cache.
 */
#ifndef TM_PROXY_UNIT_H
#define TM_PROXY_UNIT_H

#include "proxy.h"

#define UNIT_PARSED 8

struct unit {
	size_t size;     /* bytes that are there and belong to it */
	size_t rest;     /* bytes of its last message that are still to come */
	uint8_t type;    /* FE_QUERY, FE_FUNCTION_CALL, or FE_SYNC for a batch */
	bool ends;       /* a batch: its Sync is there */
	bool open;       /* a batch that must go on its way before its Sync was seen */
	bool local_only; /* nothing in it is for a server */
	int statements;  /* parsed or bound, or 1 */
	int executes;
	struct traits traits; /* of all; TRAIT_CAPTURABLE only if all that may write are */
	/* For transaction.h. What is said of "the rest" leaves the BEGIN out, if one comes first. */
	uint8_t begin;   /* its first statement is a BEGIN with these options; 0: it is not */
	bool plain;      /* the rest are plain reads, cursors over such, COMMIT and ROLLBACK */
	bool reads;      /* … with a read or cursor among them */
	bool keeps;      /* may leave a cursor or a portal open behind itself */
	bool beyond;     /* something may follow the end of a transaction */
	bool shows_time; /* may show when its transaction began. Not looked at where nobody needs it */
	uint8_t reason;  /* !plain: of the first that is none of these */
	struct slice text;    /* of the first statement; borrows the input or the cache */
	/* The statements of its Parse messages, in order, counted; further ones are looked up again. */
	int parsed_count;
	struct stmt *parsed[UNIT_PARSED];
};

/* PARTIAL: more is needed before it can be judged. INVALID: breaks the protocol. `attached`: the
 * client already has its server, so what is there of a batch may go on its way. */
enum parse_result unit_scan(struct client *c, struct slice in, bool attached, struct unit *u);
void unit_release(struct client *c, struct unit *u);
/* Does its first statement name a session in its tags? */
bool unit_names_session(const struct client *c, const struct unit *u);

#endif
