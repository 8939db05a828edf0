/* SPDX-License-Identifier: PostgreSQL
 *
 * One session, a primary and two replicas, small enough to try everything: each sequence of DEPTH
 * events, and then long random ones. After each event a replica that session_need() admits must
 * truly hold all that the session has seen. Time is an event of its own, so that many things happen
 * within one microsecond, in each order.
 */
#include "consistency/session.h"
#include "property.h"

#include <stddef.h>

#define DEPTH 6
#define NODES 3

enum { P, A, B };

struct world {
	uint64_t at[NODES]; /* the truth */
	uint64_t floor;     /* the session has seen this much */
	bool asked[NODES];
	int64_t asked_at[NODES];
	uint64_t answer[NODES];
	int64_t now;
	int64_t write_asked_at; /* a write under way; 0: none */
	struct session_mark mark;
	struct fleet fleet; /* last: only the used part of its ring is copied */
};

enum event {
	TICK,
	PRIMARY_MOVES,
	A_APPLIES,
	B_APPLIES,
	READ_A,
	READ_B,
	READ_P,
	WRITE_SENT,
	WRITE_CAPTURED,
	WRITE_UNKNOWN,
	ASK_P,
	ASK_A,
	ANSWERS,
	A_RESTARTS,
	EVENTS,
};

static const char *const event_names[EVENTS] = {
	"tick",       "primary moves",  "a applies",     "b applies", "read a", "read b",  "read p",
	"write sent", "write captured", "write unknown", "ask p",     "ask a",  "answers", "a restarts",
};

static enum event trail[4096];
static int trail_len;
static long admitted, refused, states;

static void world_init(struct world *w)
{
	memset(w, 0, sizeof(*w));
	w->now = 10;
	fleet_init(&w->fleet, 1000000);
	for (int i = 0; i < NODES; i++) {
		w->at[i] = 5;
		fleet_node_add(&w->fleet, slice_str("n"));
		fleet_node_up(&w->fleet, i, i == P ? NODE_ROLE_PRIMARY : NODE_ROLE_REPLICA, 1, 1);
		bool good = fleet_node_sampled(&w->fleet, i, (struct position){5}, 5, 6);
		require(good, "the first sample was refused");
	}
}

static void world_copy(struct world *to, const struct world *from)
{
	size_t used = offsetof(struct world, fleet) + offsetof(struct fleet, ring);
	memcpy(to, from, used + from->fleet.ring_count * sizeof(from->fleet.ring[0]));
}

static void sees(struct world *w, uint64_t at)
{
	w->floor = w->floor > at ? w->floor : at;
}

static void answer(struct world *w)
{
	for (int i = 0; i < NODES; i++) {
		if (!w->asked[i])
			continue;
		w->asked[i] = false;
		bool good = fleet_node_sampled(&w->fleet, i, (struct position){w->answer[i]},
		                               w->asked_at[i], w->now);
		require(good, "a true sample was refused");
	}
}

/* The question is answered by the server at once, and heard of later. */
static void ask(struct world *w, int node)
{
	if (w->asked[node])
		return;
	w->asked[node] = true;
	w->asked_at[node] = w->now;
	w->answer[node] = w->at[node];
}

static void restart_a(struct world *w)
{
	w->at[A] -= w->at[A] > 5;
	w->asked[A] = false;
	fleet_node_lost(&w->fleet, A, w->now);
	fleet_node_up(&w->fleet, A, NODE_ROLE_REPLICA, 1, w->now);
	/* The watcher asks at once: its new connection knows nothing. */
	bool good = fleet_node_sampled(&w->fleet, A, (struct position){w->at[A]}, w->now, w->now);
	require(good, "the first sample of an epoch was refused");
}

static void happen(struct world *w, enum event e)
{
	switch (e) {
	case TICK:
		w->now++;
		break;
	case PRIMARY_MOVES:
		w->at[P]++;
		break;
	case A_APPLIES:
		w->at[A] = w->at[P];
		break;
	case B_APPLIES:
		w->at[B] = w->at[P];
		break;
	case READ_A:
	case READ_B:
	case READ_P: {
		int node = e == READ_A ? A : e == READ_B ? B : P;
		sees(w, w->at[node]);
		session_read(&w->mark, &w->fleet, node, w->now);
		break;
	}
	case WRITE_SENT:
		w->write_asked_at = w->now;
		break;
	case WRITE_CAPTURED:
		if (w->write_asked_at == 0)
			break;
		sees(w, ++w->at[P]);
		session_wrote(&w->mark, &w->fleet, (struct position){w->at[P]}, w->write_asked_at, w->now);
		fleet_primary_reached(&w->fleet, (struct position){w->at[P]}, w->now);
		w->write_asked_at = 0;
		break;
	case WRITE_UNKNOWN:
		sees(w, ++w->at[P]);
		session_wrote_unknown(&w->mark, &w->fleet, w->now);
		break;
	case ASK_P:
		ask(w, P);
		break;
	case ASK_A:
		ask(w, A);
		break;
	case ANSWERS:
		answer(w);
		break;
	case A_RESTARTS:
		restart_a(w);
		break;
	case EVENTS:
		break;
	}
}

static void print_trail(void)
{
	for (int i = 0; i < trail_len; i++)
		fprintf(stderr, "%s%s", i == 0 ? "" : ", ", event_names[trail[i]]);
	fprintf(stderr, "\n");
}

static void check(const struct world *w)
{
	struct session_mark mark = w->mark;
	struct position need, token;
	session_settle(&mark, &w->fleet);
	states++;
	for (int n = A; n <= B; n++) {
		if (!session_need(&mark, &w->fleet, n, &need) ||
		    !position_reached(w->fleet.nodes[n].at, need)) {
			refused++;
			require(session_owed_since(&mark, &w->fleet) != 0 || position_is_set(need),
			        "refused for no reason");
			continue;
		}
		admitted++;
		if (w->at[n] < w->floor)
			print_trail();
		require(w->at[n] >= w->floor, "node %d is at %" PRIu64 ", the session has seen %" PRIu64, n,
		        w->at[n], w->floor);
	}
	if (session_position(&mark, &w->fleet, &token))
		require(token.lsn >= w->floor, "a token below what was seen");
}

static void explore(const struct world *w, int depth)
{
	struct world next;
	for (int e = 0; e < EVENTS; e++) {
		world_copy(&next, w);
		trail[trail_len++] = (enum event)e;
		happen(&next, (enum event)e);
		check(&next);
		if (depth > 1)
			explore(&next, depth - 1);
		trail_len--;
	}
}

static void run_random(void)
{
	struct world w;
	world_init(&w);
	trail_len = 0;
	for (int i = 0; i < 200; i++) {
		trail[trail_len++] = (enum event)below(EVENTS);
		happen(&w, trail[trail_len - 1]);
		check(&w);
	}
}

int main(int argc, char **argv)
{
	struct world w;
	world_init(&w);
	explore(&w, DEPTH);
	printf("every sequence of %d events: %ld states, %ld admitted\n", DEPTH, states, admitted);
	property_run(argc, argv, 10000, run_random);
	printf("%ld states, %ld times a replica was admitted, %ld refused\n", states, admitted,
	       refused);
	return 0;
}
