/* SPDX-License-Identifier: PostgreSQL
 *
 * Why a read at another router cannot miss a write that was acknowledged:
 *
 * A heartbeat carries the end of the lease, in Redis's own time: `until` = (the least that Redis's
 * clock can show now) + lease. The script stores that number and does not count from when it runs,
 * so a heartbeat that a stopped server or a slow network delivers late gives nothing that was not
 * given when it was sent. Hence, whichever of the heartbeats sent were processed, and when: once
 * Redis's clock is past the greatest `until` ever sent, and no other heartbeat is sent, every get
 * of another router finds this one's lease lapsed. `lapse_at_us` is when that is certain by our
 * clock.
 *
 * A writer is told that its write is done when (a) Redis answered that it stored the mark, or when
 * (b) now >= lapse_at_us and the mark is owed. While anything is owed no heartbeat is sent, so
 * lapse_at_us stands still. What is owed ceases to be so when Redis has *answered* that it is
 * stored, and only then heartbeats go on; to send it ahead of the heartbeat is not enough, for it
 * may be refused where the heartbeat is not. A mark that was sent and not yet answered does not
 * hold heartbeats up: its writer has been told nothing, and if it fails, (b) waits for them too.
 *
 * For how long (b) holds: others doubt for one time to live from the end of the lease. A write that
 * is acknowledged at its very end would soon be believed missing, so (b) is good only for the first
 * half, and the second half is for replicas to catch up: that is store_covers(). If the router's
 * lease itself was lost by Redis, so was the boot key (or it is of another incarnation), and all
 * doubt for a time to live from then.
 *
 * Own marks: a get leaves only while nothing is owed, on the same connection behind all puts. If
 * one of those is refused, the refusal comes first and fails the connection, and the get with it.
 *
 * Assumed: Redis's clock runs at 0.9 to 1.1 times the rate of ours and does not jump (if it does,
 * the next heartbeat notices and makes all marks doubtful); a server that says it stored a mark has
 * it until it restarts, fails over, is flushed or evicts; no replica is behind by more than half of
 * the time to live. Of a failover that leaves the old master running, cut off: it stops taking
 * marks because min-replicas-to-write is set, which is asked for where there is a sentinel or more
 * than one address.
 */
#include "store.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "link.h"
#include "mark.h"
#include "net/tls.h"
#include "owed.h"

#define NAME_MAX_BYTES 127
#define PREFIX_MAX 40 /* "tidemark:{18446744073709551615}:" */
#define KEY_MAX (PREFIX_MAX + 2 * NAME_MAX_BYTES + 1)

#define BACKOFF_MIN_US 100000
#define BACKOFF_MAX_US 2000000
#define INFO_INTERVAL_US 1000000

/* What our clock shows to be sure that Redis's went on by t, and the other way round. */
#define AT_MOST_OF_OURS(us) ((us) / 10 * 9)
#define AT_LEAST_OF_OURS(us) ((us) / 9 * 10 + 2000)

enum kind {
	ASK_INFO,
	ASK_GET,
	ASK_PUT,
	ASK_REPAY, /* an owed mark */
	ASK_VOID,
	ASK_HEARTBEAT,
};

/* In flight, or a put whose writer waits for the lapse. */
struct store_request {
	struct list link;     /* in s->flight or s->waiting */
	struct list at_entry; /* in entry->waiters */
	struct store *store;
	enum kind kind;
	bool waits; /* in s->waiting */
	store_get_fn got;
	store_put_fn put;
	void *arg;
	struct owed *entry; /* REPAY: what is repaid; a waiting put: what stands for it, if anything */
	uint64_t void_turn; /* VOID: which; a waiting put without entry: the one that stands for it */
	int64_t sent_at_us, ttl_us, until_ms;
	struct store_mark mark;
	size_t key_len;
	char key[];
};

struct store {
	struct net_loop *loop;
	struct store_settings settings;
	struct tls_context *tls;
	char router[33];
	char prefix[PREFIX_MAX];
	bool has_cluster;
	uint64_t cluster;
	int64_t ttl_us;

	/* The connection. */
	struct link *link; /* NULL: the circuit is open */
	bool up;           /* the link is ready */
	bool proven;       /* a heartbeat was answered since it is up */
	unsigned turn;
	int64_t backoff_us, up_at_us;
	struct info info;
	bool trusted;
	int64_t info_at_us;
	struct tick tick;   /* the latest */
	struct list flight; /* requests, oldest first */
	int in_flight;
	struct net_timer *retry, *limit, *beat;

	/* The lease. */
	int64_t lapse_at_us;    /* or, before the first one, when not to wait for it any longer */
	int64_t covers_till_us; /* 0: never had one */
	int64_t bare_till_us;   /* a writer could not be made to wait */
	struct owed_table owed;
	uint64_t void_asked, void_sent, void_done; /* counts; asked > done: one is owed */
	struct list waiting;                       /* puts whose writers wait for the lapse */
	struct net_timer *lapse;

	bool told_down; /* what is wrong was logged */
	struct store_stats stats;
};

/* ================= commands ================= */

static struct slice key_of(const struct store_request *r)
{
	return slice_of(r->key, r->key_len);
}

static int64_t ms_up(int64_t us)
{
	return (us + 999) / 1000;
}

static void run_script(struct store *s, enum script script, struct slice mark_key, const char *own)
{
	char boot[PREFIX_MAX + 8], routers[PREFIX_MAX + 8], ttl[24];
	(void)snprintf(boot, sizeof(boot), "%sboot", s->prefix);
	(void)snprintf(routers, sizeof(routers), "%srouters", s->prefix);
	(void)snprintf(ttl, sizeof(ttl), "%" PRId64, ms_up(s->ttl_us));
	/* Commands without a mark name the boot key twice: a slot is a slot. */
	const struct slice keys[SCRIPT_KEYS] = {slice_str(boot), slice_str(routers),
	                                        mark_key.len > 0 ? mark_key : slice_str(boot)};
	const struct slice arguments[SCRIPT_ARGUMENTS] = {
		[ARGUMENT_INCARNATION] = slice_str(s->info.incarnation),
		[ARGUMENT_TTL_MS] = slice_str(ttl),
		[ARGUMENT_ROUTER] = slice_str(s->router),
		[ARGUMENT_OWN] = slice_str(own),
	};
	link_run(s->link, script, keys, arguments);
}

/* Enters the queue of those that wait for an answer; the command itself is sent by the caller. */
static void take_off(struct store *s, struct store_request *r)
{
	r->sent_at_us = net_now_us();
	if (list_empty(&s->flight))
		net_timer_start(s->limit, s->settings.command_timeout_us);
	list_push_back(&s->flight, &r->link);
	s->in_flight++;
}

static struct store_request *request_new(struct store *s, enum kind kind, struct slice key)
{
	struct store_request *r = calloc(1, sizeof(*r) + key.len);
	if (!r)
		return NULL;
	list_init(&r->link);
	list_init(&r->at_entry);
	r->store = s;
	r->kind = kind;
	r->ttl_us = s->ttl_us;
	r->key_len = key.len;
	if (key.len > 0)
		memcpy(r->key, key.ptr, key.len);
	return r;
}

static void request_free(struct store_request *r)
{
	list_remove(&r->link);
	list_remove(&r->at_entry);
	free(r);
}

static void send_mark(struct store *s, struct store_request *r)
{
	char text[MARK_TEXT_LEN + 1];
	mark_format(&r->mark, text);
	run_script(s, SCRIPT_PUT, key_of(r), text);
	take_off(s, r);
}

static void send_info(struct store *s)
{
	const struct slice words[] = {slice_str("INFO")};
	struct store_request *r = request_new(s, ASK_INFO, (struct slice){0});
	if (!r)
		return;
	s->info_at_us = net_now_us();
	link_send(s->link, words, 1);
	take_off(s, r);
}

/* ================= the lease ================= */

static bool owes(const struct store *s)
{
	return s->owed.count > 0 || s->void_asked > s->void_done;
}

/* The least that Redis's clock can show when ours shows `now_us`. */
static int64_t redis_time_ms(const struct store *s, int64_t now_us)
{
	return s->tick.time_ms + AT_MOST_OF_OURS(now_us - s->tick.heard_at_us) / 1000;
}

/* Whether Redis's clock went on otherwise than a clock does. */
static bool has_jumped(const struct tick *was, const struct tick *is)
{
	int64_t least_us = AT_MOST_OF_OURS(is->sent_at_us - was->heard_at_us);
	int64_t most_us = AT_LEAST_OF_OURS(is->heard_at_us - was->sent_at_us);
	int64_t passed_ms = is->time_ms - was->time_ms;
	return passed_ms < least_us / 1000 - 1 || passed_ms > most_us / 1000 + 1;
}

/* Leases and the age of the boot key are counted in Redis's time: what they say is worth nothing
 * after a jump, and is all made doubtful. */
static void learn_tick(struct store *s, struct tick is)
{
	struct tick was = s->tick;
	s->tick = is;
	if (!has_jumped(&was, &is))
		return;
	log_warn("store=%s: its clock jumped, from %" PRId64 " to %" PRId64 " ms within %" PRId64
	         " ms of ours; all marks are doubtful for a time to live",
	         s->stats.server, was.time_ms, is.time_ms, (is.heard_at_us - was.sent_at_us) / 1000);
	s->void_asked++;
}

#ifdef STORE_TEST_SWITCHES
/* Rules that can be broken, to see that the tests notice: "beat" sends heartbeats while marks are
 * owed, "early" tells writers before the lease has lapsed, "long" has leases that end later than is
 * known here, "believe" never doubts. */
static bool breaks(const char *rule)
{
	const char *broken = getenv("STORE_BREAKS");
	return broken && strcmp(broken, rule) == 0;
}
#else
#define breaks(rule) false
#endif

static void send_heartbeat(struct store *s)
{
	struct store_request *r;
	if (!s->up || (owes(s) && !breaks("beat")) ||
	    !(r = request_new(s, ASK_HEARTBEAT, (struct slice){0})))
		return;
	int64_t now = net_now_us();
	char until[24];
	r->until_ms = redis_time_ms(s, now) + s->settings.lease_us / 1000;
	if (breaks("long"))
		r->until_ms += 10 * s->settings.lease_us / 1000;
	(void)snprintf(until, sizeof(until), "%" PRId64, r->until_ms);
	run_script(s, SCRIPT_HEARTBEAT, (struct slice){0}, until);
	take_off(s, r);
	int64_t lapse_at = now + AT_LEAST_OF_OURS(s->settings.lease_us);
	if (lapse_at > s->lapse_at_us)
		s->lapse_at_us = lapse_at;
}

static void on_beat(void *arg)
{
	struct store *s = arg;
	if (!s->up)
		return;
	net_timer_start(s->beat, s->settings.lease_us / 3);
	if (net_now_us() - s->info_at_us >= INFO_INTERVAL_US)
		send_info(s);
	send_heartbeat(s);
}

bool store_covers(const struct store *s)
{
	int64_t now = net_now_us();
	return now < s->covers_till_us && now >= s->bare_till_us;
}

/* ---- writers that wait ---- */

static bool has_lapsed(const struct store *s)
{
	return net_now_us() >= s->lapse_at_us || breaks("early");
}

static void tell_writer(struct store_request *r, bool stored)
{
	store_put_fn fn = r->put;
	void *arg = r->arg;
	request_free(r);
	if (fn)
		fn(arg, stored);
}

static void on_lapse(void *arg)
{
	struct store *s = arg;
	struct list *it;
	if (!has_lapsed(s)) {
		net_timer_start(s->lapse, s->lapse_at_us - net_now_us());
		return;
	}
	while ((it = list_first(&s->waiting)))
		tell_writer(container_of(it, struct store_request, link), false);
}

/* The writer of r waits for the lapse, or until what stands for its mark is stored. */
static void wait_for_lapse(struct store *s, struct store_request *r)
{
	r->waits = true;
	if (list_empty(&s->waiting))
		net_timer_start(s->lapse, breaks("early") ? 0 : s->lapse_at_us - net_now_us());
	list_push_back(&s->waiting, &r->link);
	if (r->entry)
		list_push_back(&r->entry->waiters, &r->at_entry);
	else
		r->void_turn = s->void_asked;
}

/* ---- what is owed ---- */

/* Too much: the next void stands for every mark that is owed. */
static void give_up_marks(struct store *s)
{
	s->void_asked++;
	list_for_each(it, &s->waiting)
	{
		struct store_request *r = container_of(it, struct store_request, link);
		if (!r->entry)
			continue;
		r->entry = NULL;
		list_remove(&r->at_entry);
		r->void_turn = s->void_asked;
	}
	list_for_each(it, &s->flight) container_of(it, struct store_request, link)->entry = NULL;
	int max = s->owed.max;
	owed_release(&s->owed);
	if (!owed_init(&s->owed, max))
		abort();
}

/* Notes that the mark of `r`, which is in no list, could not be stored. */
static void owe_mark(struct store *s, struct store_request *r)
{
	bool is_void = s->void_asked > s->void_sent;
	if (!is_void)
		r->entry = owed_raise(&s->owed, key_of(r), &r->mark);
	if (!r->entry && !is_void)
		give_up_marks(s);
}

static void send_void(struct store *s)
{
	struct store_request *r = request_new(s, ASK_VOID, (struct slice){0});
	if (!r)
		return;
	r->void_turn = s->void_sent = s->void_asked;
	run_script(s, SCRIPT_VOID, (struct slice){0}, "");
	take_off(s, r);
}

static bool has_room(const struct store *s)
{
	return s->up && s->in_flight < s->settings.max_in_flight;
}

/* Sends what is owed, as far as there is room. */
static void repay(struct store *s)
{
	struct owed *o;
	if (has_room(s) && s->void_asked > s->void_sent)
		send_void(s);
	while (has_room(s) && (o = owed_next(&s->owed))) {
		struct store_request *r = request_new(s, ASK_REPAY, slice_of(o->key, o->key_len));
		if (!r)
			return;
		r->entry = o;
		r->mark = o->mark;
		owed_sent(&s->owed, o);
		send_mark(s, r);
	}
}

/* ================= the connection ================= */

static void fail(struct store *s, const char *why);
static void open_link(struct store *s);

static void tell_asker(struct store_request *r, enum store_result result,
                       const struct store_mark *mark)
{
	store_get_fn fn = r->got;
	void *arg = r->arg;
	request_free(r);
	if (fn)
		fn(arg, result, mark);
}

/* A request whose answer will not come. */
static void fail_request(struct store *s, struct store_request *r)
{
	list_remove(&r->link);
	switch (r->kind) {
	case ASK_GET:
		s->stats.failed++;
		tell_asker(r, STORE_FAILED, NULL);
		return;
	case ASK_PUT:
		s->stats.failed++;
		owe_mark(s, r);
		if (!r->put)
			request_free(r);
		else if (has_lapsed(s))
			tell_writer(r, false);
		else
			wait_for_lapse(s, r);
		return;
	default:
		request_free(r);
	}
}

static void fail_flight(struct store *s)
{
	struct list failed;
	list_init(&failed);
	/* Repaid marks first become owed again, so that the puts behind them merge into them. */
	owed_all_unsent(&s->owed);
	s->void_sent = s->void_done;
	while (!list_empty(&s->flight)) {
		struct list *it = s->flight.next;
		list_remove(it);
		list_push_back(&failed, it);
	}
	s->in_flight = 0;
	while (!list_empty(&failed))
		fail_request(s, container_of(failed.next, struct store_request, link));
}

static void tell_down(struct store *s, const char *why)
{
	bool news = !s->told_down || strcmp(s->stats.error, why) != 0;
	(void)snprintf(s->stats.error, sizeof(s->stats.error), "%s", why);
	if (news)
		log_warn("store=%s is down: %s; named sessions read from the primary until it answers",
		         s->stats.server, why);
	s->told_down = true;
}

static void retry_later(struct store *s, bool at_once)
{
	uint8_t dice;
	net_random(&dice, 1);
	int64_t delay = at_once ? 1000 : s->backoff_us / 256 * (192 + dice / 2);
	net_timer_start(s->retry, delay);
	s->backoff_us = s->backoff_us * 2 < BACKOFF_MAX_US ? s->backoff_us * 2 : BACKOFF_MAX_US;
}

/* Opens the circuit. Calls out at its end only, when all is consistent. */
static void drop_link(struct store *s, const char *why, bool at_once)
{
	if (s->link)
		(void)snprintf(s->stats.server, sizeof(s->stats.server), "%s", link_server(s->link));
	tell_down(s, why);
	link_close(s->link);
	s->link = NULL;
	s->up = s->proven = false;
	s->turn++;
	net_timer_stop(s->limit);
	net_timer_stop(s->beat);
	retry_later(s, at_once);
	fail_flight(s);
}

static void fail(struct store *s, const char *why)
{
	drop_link(s, why, false);
}

/* ---- what INFO says ---- */

static const char *distrust(const struct store *s, char *out, size_t cap)
{
	bool may_change = s->settings.sentinel_master[0] != '\0' || s->settings.address_count > 1;
	if (s->info.evicts)
		(void)snprintf(out, cap,
		               "it may evict keys (maxmemory-policy %s); set maxmemory-policy noeviction",
		               s->info.policy);
	else if (may_change && !s->info.stops_without_replicas)
		(void)snprintf(out, cap,
		               "a master that was replaced would go on taking marks; set "
		               "min-replicas-to-write 1 on all its servers, Redis 7 or later");
	else
		return NULL;
	return out;
}

static void take_info(struct store *s, const struct info *info)
{
	char why[sizeof(s->stats.error)];
	s->info = *info;
	bool was_trusted = s->trusted;
	const char *reason = distrust(s, why, sizeof(why));
	s->trusted = !reason;
	if (reason && (was_trusted || strcmp(s->stats.error, reason) != 0))
		log_warn("store=%s: marks are not trusted: %s", s->stats.server, reason);
	if (!reason && !was_trusted && s->up)
		log_info("store=%s: marks are trusted again", s->stats.server);
	if (s->up)
		(void)snprintf(s->stats.error, sizeof(s->stats.error), "%s", reason ? reason : "");
}

/* ---- answers ---- */

static void take_get(struct store *s, struct store_request *r, const struct resp_reply *reply)
{
	struct store_mark mark = {0};
	const struct resp_value *text = &reply->items[0], *doubt = &reply->items[1];
	bool sure = s->trusted && doubt->integer == 0 &&
	            (text->type == RESP_NIL || mark_parse(text->text, &mark));
	if (breaks("believe"))
		sure = true;
	if (!sure)
		s->stats.doubtful++;
	tell_asker(r, sure ? STORE_OK : STORE_DOUBTFUL, sure ? &mark : NULL);
}

static void take_repaid(struct store *s, struct store_request *r)
{
	struct owed *o = r->entry;
	bool latest = o && o->is_sent && !mark_later(&o->mark, &r->mark);
	request_free(r);
	if (!latest)
		return;
	struct list stored, *it;
	list_init(&stored);
	while ((it = list_first(&o->waiters))) {
		struct store_request *w = container_of(it, struct store_request, at_entry);
		w->entry = NULL;
		list_remove(it);
		list_remove(&w->link);
		list_push_back(&stored, &w->link);
	}
	owed_remove(&s->owed, o);
	while ((it = list_first(&stored)))
		tell_writer(container_of(it, struct store_request, link), true);
}

static void take_voided(struct store *s, struct store_request *r)
{
	struct list told, *first;
	s->void_done = r->void_turn;
	request_free(r);
	list_init(&told);
	list_for_each(it, &s->waiting)
	{
		struct store_request *w = container_of(it, struct store_request, link);
		if (w->entry || w->void_turn > s->void_done)
			continue;
		list_remove(it);
		list_push_back(&told, it);
	}
	while ((first = list_first(&told)))
		tell_writer(container_of(first, struct store_request, link), true);
}

static void take_heartbeat(struct store *s, struct store_request *r, const struct resp_reply *reply)
{
	int64_t ttl = r->ttl_us, until = r->until_ms;
	struct tick tick = {reply->items[0].integer, r->sent_at_us, net_now_us()};
	request_free(r);
	learn_tick(s, tick);
	/* One that came too late to be a lease says nothing about how long others doubt. */
	if (tick.time_ms <= until)
		s->covers_till_us = tick.sent_at_us + AT_MOST_OF_OURS(ttl / 2);
	if (s->proven)
		return;
	s->proven = true;
	s->told_down = false;
	s->backoff_us = BACKOFF_MIN_US;
	log_info("store=%s is up: named sessions are shared with other routers", s->stats.server);
}

static void take_info_reply(struct store *s, struct store_request *r,
                            const struct resp_reply *reply)
{
	struct info info;
	request_free(r);
	const char *why = link_judge_info(reply, &info);
	if (why)
		fail(s, why);
	else
		take_info(s, &info);
}

/* Any refusal ends the connection: whatever was sent behind it may rely on it. */
static void take_error(struct store *s, struct slice text)
{
	char why[sizeof(s->stats.error)];
	bool no_script = text.len >= 8 && memcmp(text.ptr, "NOSCRIPT", 8) == 0;
	(void)snprintf(why, sizeof(why), "it says %.*s", SLICE_ARG(text));
	drop_link(s, why, no_script && net_now_us() - s->up_at_us > BACKOFF_MAX_US);
}

static void take_answer(struct store *s, struct store_request *r, const struct resp_reply *reply)
{
	switch (r->kind) {
	case ASK_INFO:
		take_info_reply(s, r, reply);
		break;
	case ASK_GET:
		take_get(s, r, reply);
		break;
	case ASK_PUT:
		tell_writer(r, true);
		break;
	case ASK_REPAY:
		take_repaid(s, r);
		break;
	case ASK_VOID:
		take_voided(s, r);
		break;
	case ASK_HEARTBEAT:
		take_heartbeat(s, r, reply);
		break;
	}
}

/* Fourteen digits, see scripts.c. */
#define TIME_MS_MAX INT64_C(99999999999999)

static bool is_answer(const struct store_request *r, const struct resp_reply *reply)
{
	const struct resp_value *one = &reply->items[0], *two = &reply->items[1];
	switch (r->kind) {
	case ASK_INFO:
		return reply->top.type == RESP_TEXT;
	case ASK_GET:
		return reply->count == 2 && (one->type == RESP_NIL || one->type == RESP_TEXT) &&
		       two->type == RESP_INTEGER;
	case ASK_HEARTBEAT:
		return reply->count == 2 && one->type == RESP_INTEGER && one->integer > 0 &&
		       one->integer <= TIME_MS_MAX && two->type == RESP_INTEGER;
	default:
		return reply->top.type == RESP_INTEGER && reply->top.integer == 1;
	}
}

static void on_reply(void *owner, const struct resp_reply *reply)
{
	struct store *s = owner;
	struct list *first = list_first(&s->flight);
	if (!first) {
		fail(s, "an answer that nobody asked for");
		return;
	}
	if (reply->top.type == RESP_ERROR) {
		take_error(s, reply->top.text);
		return;
	}
	struct store_request *r = container_of(first, struct store_request, link);
	if (!is_answer(r, reply)) {
		fail(s, "an answer is of another kind than expected");
		return;
	}
	bool owed = owes(s);
	list_remove(&r->link);
	s->in_flight--;
	s->stats.last_rtt_us = net_now_us() - r->sent_at_us;
	take_answer(s, r, reply);
	repay(s);
	if (owed && !owes(s))
		send_heartbeat(s);
}

/* One timer for the oldest: it is not moved with every answer, but looks again when it fires. */
static void on_limit(void *arg)
{
	struct store *s = arg;
	/* If this process was held up, the answer is there already. */
	link_read_now(s->link);
	struct list *first = list_first(&s->flight);
	if (!s->link || !first)
		return;
	int64_t age = net_now_us() - container_of(first, struct store_request, link)->sent_at_us;
	if (age < s->settings.command_timeout_us) {
		net_timer_start(s->limit, s->settings.command_timeout_us - age);
		return;
	}
	char why[64];
	(void)snprintf(why, sizeof(why), "no answer within %" PRId64 " ms",
	               ms_up(s->settings.command_timeout_us));
	s->stats.timeouts++;
	fail(s, why);
}

static void on_ready(void *owner)
{
	struct store *s = owner;
	s->up = true;
	s->up_at_us = s->info_at_us = net_now_us();
	s->tick = *link_tick(s->link);
	s->stats.reconnects++;
	(void)snprintf(s->stats.server, sizeof(s->stats.server), "%s", link_server(s->link));
	take_info(s, link_info(s->link));
	repay(s);
	send_heartbeat(s);
	net_timer_start(s->beat, s->settings.lease_us / 3);
}

static void on_lost(void *owner, const char *why)
{
	fail(owner, why);
}

static void open_link(struct store *s)
{
	static const struct link_handlers handlers = {
		.ready = on_ready, .reply = on_reply, .lost = on_lost};
	s->link = link_open(s->loop, &s->settings, s->tls, s->turn, &handlers, s);
	if (!s->link)
		fail(s, "no memory or no descriptors");
}

static void on_retry(void *arg)
{
	open_link(arg);
}

/* ================= the public side ================= */

static void set_default(int64_t *value, int64_t preset)
{
	if (*value <= 0)
		*value = preset;
}

static void fill_settings(struct store_settings *s)
{
	set_default(&s->command_timeout_us, 30000);
	set_default(&s->connect_timeout_us, 500000);
	set_default(&s->lease_us, 300000);
	set_default(&s->ttl_us, INT64_C(3600000000));
	if (s->max_in_flight <= 0)
		s->max_in_flight = 1024;
	if (s->max_owed <= 0)
		s->max_owed = 4096;
}

static bool make_tls(struct store *s)
{
	char error[512];
	const struct tls_settings files = {.ca_file = s->settings.tls_ca_file,
	                                   .cert_file = s->settings.tls_cert_file,
	                                   .key_file = s->settings.tls_key_file};
	if (!s->settings.tls)
		return true;
	s->tls = tls_context_new(&files, error, sizeof(error));
	if (!s->tls)
		log_error("store: %s", error);
	return s->tls != NULL;
}

static bool make_timers(struct store *s)
{
	s->retry = net_timer_new(s->loop, on_retry, s);
	s->limit = net_timer_new(s->loop, on_limit, s);
	s->beat = net_timer_new(s->loop, on_beat, s);
	s->lapse = net_timer_new(s->loop, on_lapse, s);
	return s->retry && s->limit && s->beat && s->lapse;
}

struct store *store_new(struct net_loop *loop, const struct store_settings *settings,
                        const uint8_t router[16])
{
	assert(settings->address_count >= 1 && settings->address_count <= STORE_ADDRESSES_MAX);
	struct store *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->loop = loop;
	s->settings = *settings;
	fill_settings(&s->settings);
	s->ttl_us = s->settings.ttl_us;
	for (int i = 0; i < 16; i++)
		(void)snprintf(s->router + 2 * i, 3, "%02x", router[i]);
	list_init(&s->flight);
	list_init(&s->waiting);
	s->trusted = true;
	s->backoff_us = BACKOFF_MIN_US;
	if (!make_timers(s) || !make_tls(s) || !owed_init(&s->owed, s->settings.max_owed)) {
		store_free(s);
		return NULL;
	}
	return s;
}

static void free_requests(struct list *l)
{
	struct list *it;
	while ((it = list_first(l)))
		request_free(container_of(it, struct store_request, link));
}

static void leave(struct store *s)
{
	char routers[PREFIX_MAX + 8];
	(void)snprintf(routers, sizeof(routers), "%srouters", s->prefix);
	const struct slice words[] = {slice_str("ZREM"), slice_str(routers), slice_str(s->router)};
	link_send(s->link, words, 3);
	link_flush(s->link);
}

void store_free(struct store *s)
{
	if (!s)
		return;
	if (s->up && !owes(s))
		leave(s);
	link_close(s->link);
	free_requests(&s->flight);
	free_requests(&s->waiting);
	owed_release(&s->owed);
	net_timer_free(s->retry);
	net_timer_free(s->limit);
	net_timer_free(s->beat);
	net_timer_free(s->lapse);
	tls_context_free(s->tls);
	free(s);
}

void store_set_cluster(struct store *s, uint64_t system_identifier)
{
	if (s->has_cluster && s->cluster == system_identifier)
		return;
	bool had = s->has_cluster;
	s->has_cluster = true;
	s->cluster = system_identifier;
	s->covers_till_us = 0;
	(void)snprintf(s->prefix, sizeof(s->prefix), "tidemark:{%" PRIu64 "}:", system_identifier);
	if (!had) {
		/* Nobody doubts yet for the sake of a router that has just begun: its first writers wait
		 * until their marks are stored, as long as the first connection may take. */
		s->lapse_at_us =
			net_now_us() + s->settings.connect_timeout_us + s->settings.command_timeout_us;
		net_timer_start(s->retry, 0);
	} else if (s->link) {
		drop_link(s, "the cluster is another one", true);
	}
}

void store_raise_ttl(struct store *s, int64_t lag_us)
{
	/* Half of it is for routers that are cut off, see the top. */
	if (lag_us * 2 > s->ttl_us)
		s->ttl_us = lag_us * 2;
}

int64_t store_keeps_us(const struct store *s)
{
	/* What was kept before the time to live grew may be gone already. */
	return s->settings.ttl_us / 2;
}

static struct store_request *named_request(struct store *s, enum kind kind, struct slice database,
                                           struct slice session)
{
	char key[KEY_MAX + 1];
	assert(database.len <= NAME_MAX_BYTES && session.len <= NAME_MAX_BYTES);
	size_t n = strlen(s->prefix);
	memcpy(key, s->prefix, n);
	memcpy(key + n, database.ptr, database.len);
	n += database.len;
	key[n++] = ':';
	memcpy(key + n, session.ptr, session.len);
	return request_new(s, kind, slice_of(key, n + session.len));
}

struct store_request *store_get(struct store *s, struct slice database, struct slice session,
                                store_get_fn fn, void *arg)
{
	struct store_request *r = NULL;
	s->stats.reads++;
	if (has_room(s) && !owes(s))
		r = named_request(s, ASK_GET, database, session);
	if (!r) {
		s->stats.failed++;
		return NULL;
	}
	r->got = fn;
	r->arg = arg;
	run_script(s, SCRIPT_GET, key_of(r), "");
	take_off(s, r);
	return r;
}

/* No memory: the void stands for the mark, and nobody may be told of the write before the lapse. */
static struct store_request *put_without_memory(struct store *s)
{
	give_up_marks(s);
	s->bare_till_us = s->lapse_at_us;
	return NULL;
}

struct store_request *store_put(struct store *s, struct slice database, struct slice session,
                                struct store_mark mark, store_put_fn fn, void *arg)
{
	s->stats.writes++;
	struct store_request *r = named_request(s, ASK_PUT, database, session);
	if (!r)
		return put_without_memory(s);
	r->put = fn;
	r->arg = arg;
	r->mark = mark;
	if (mark.present && s->has_cluster && has_room(s)) {
		send_mark(s, r);
		return r;
	}
	if (mark.present && s->has_cluster)
		owe_mark(s, r);
	else
		s->void_asked++;
	bool lapsed = has_lapsed(s);
	if (lapsed)
		request_free(r);
	else
		wait_for_lapse(s, r);
	repay(s);
	return lapsed ? NULL : r;
}

void store_forget(struct store_request *r)
{
	if (r->waits) {
		request_free(r);
		return;
	}
	r->got = NULL;
	r->put = NULL;
}

void store_stats(const struct store *s, struct store_stats *out)
{
	*out = s->stats;
	out->up = s->proven;
	out->in_flight = s->in_flight;
	out->owed = s->owed.count;
	if (out->reconnects > 0)
		out->reconnects--;
}
