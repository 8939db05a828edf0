/* SPDX-License-Identifier: PostgreSQL
 *
 * Where does this statement go? One pure function with a reason. This is the product.
 */
#ifndef TM_CONSISTENCY_ROUTE_H
#define TM_CONSISTENCY_ROUTE_H

#include "session.h"

enum consistency_level { LEVEL_STRONG, LEVEL_SESSION, LEVEL_BOUNDED, LEVEL_EVENTUAL };

/* "strong", "session", "bounded", "eventual". */
const char *consistency_level_name(enum consistency_level level);
/* Case-insensitive; false, and nothing set, if `name` is none of them. */
bool consistency_level_parse(const char *name, enum consistency_level *level);

enum strategy {
	STRATEGY_POSITION,  /* by replayed position: the default */
	STRATEGY_PIN_FIXED, /* after a write, the primary for pin_window_us */
	STRATEGY_PIN_AUTO,  /* the same; the window follows the fleet's observed replay delay */
};

/* Why a statement may not go to a replica whatever the positions, as the caller found. */
enum route_reason {
	/* to a replica */
	REASON_REPLICA_FRESH,     /* a replica at or past the mark */
	REASON_REPLICA_CAUGHT_UP, /* one expected there by now: it has to prove it (a guarded read) */
	REASON_REPLICA_BOUNDED,   /* within max_lag */
	REASON_REPLICA_EVENTUAL,  /* any healthy replica */
	REASON_REPLICA_RETRIED,   /* one of the above, after another replica failed it */
	REASON_REPLICA_TRANSACTION, /* its transaction runs there */
	/* wait */
	REASON_WAIT_STORE,   /* the session's mark is being asked for elsewhere */
	REASON_WAIT_REPLICA, /* a replica is expected to catch up within the budget */
	REASON_WAIT_SAMPLE,  /* the mark itself is not known until a sample lands */
	/* to the primary, because of the statement or the connection */
	REASON_WRITE,
	REASON_TRANSACTION,
	REASON_BOUND, /* session state binds the client to its primary connection */
	REASON_UNSAFE_FUNCTION,
	REASON_LOCKING,
	REASON_UTILITY,
	REASON_UNPARSABLE,
	REASON_TOO_LONG,
	REASON_REFUSED_BEFORE, /* a standby refused this statement once */
	REASON_RETRIED,        /* a standby refused or failed it just now */
	REASON_PIPELINE, /* part of a batch that is not all plain reads, or that was not complete */
	REASON_STORE_DOUBTFUL, /* the store of session marks does not answer, or is in doubt */
	REASON_TOKEN_REFUSED,  /* it came with a token that cannot be believed */
	REASON_INTERNAL,       /* the router's own housekeeping */
	/* to the primary, because of the level or the fleet */
	REASON_STRONG,
	REASON_PINNED,
	REASON_NO_REPLICA,
	REASON_TOO_FAR_BEHIND, /* no replica is expected to catch up within the budget */
	REASON_WAIT_TIMEOUT,
	REASON_LAG_LIMIT,    /* no replica within max_lag (bounded) or replica_max_lag */
	REASON_MARK_UNKNOWN, /* the session's mark could not be had */
	REASON_OBSERVED,     /* mode = observe: `would` says where it would have gone */
	REASON_COUNT,
};

/* "replica_fresh" … for metrics; and a sentence for SHOW tidemark.route. */
const char *route_reason_name(enum route_reason reason);
const char *route_reason_words(enum route_reason reason);

/* A read that the primary answers only because no replica was fit for it. */
bool route_is_fallback(enum route_reason reason);

/* Deliberately broken routing, to show that the history checker sees it. Only the test build of
 * the program can set anything but FAULT_NONE. */
enum route_fault {
	FAULT_NONE,
	FAULT_POSITION_INSIDE, /* captures the position inside the writing statement's transaction */
	FAULT_WRITE_POINTER,   /* captures pg_current_wal_lsn() */
	FAULT_NO_READ_MARKS,   /* forgets what was read */
	/* Checks the replica's position after the read's snapshot: where a wait for a replica is due,
	 * route_decide() answers ROUTE_REPLICA with `need` set, for the caller to check afterwards. */
	FAULT_GUARD_AFTER,
	FAULT_GUARD_IGNORED, /* takes a guarded read's answer whatever its guard said */
	FAULT_LOSS_UNTOLD,   /* keeps it to itself what a failover has lost */
};

struct route_policy {
	enum consistency_level level;
	enum strategy strategy;
	int64_t wait_timeout_us; /* 0: never wait */
	int64_t max_lag_us;      /* bounded */
	int64_t replica_max_lag_us; /* every level: replicas further behind are left out; 0: none is */
	int64_t pin_window_us;   /* STRATEGY_PIN_FIXED */
	/* Level session, where what is known of the mark reaches back only so far: replicas that are
	 * further behind are left out. 0: it has no end. */
	int64_t known_back_us;
	/* Replicas that this statement cannot be sent to, one bit each. */
	uint32_t avoid;
	/* The caller can guard this statement: a replica that is expected there within this time may be
	 * told to prove it. 0: it cannot. */
	int64_t guard_within_us;
	enum route_fault fault;
};

enum route_target { ROUTE_PRIMARY, ROUTE_REPLICA, ROUTE_WAIT };

struct route {
	enum route_target target;
	enum route_reason reason;
	int node; /* ROUTE_REPLICA: which; ROUTE_WAIT: the one expected first, or NODE_NONE */
	/* ROUTE_WAIT: wake when some replica has reached it; unset if a sample is awaited.
	 * ROUTE_REPLICA: set if the read is guarded: on the same connection and before the read, in a
	 * transaction of its own, the replica is asked for its position, and the read's answer counts
	 * only if that covers `need`. Else it is thrown away and the read decided again, unguarded. */
	struct position need;
	int64_t
		sample_after_us;   /* wake when the primary (or a replica) was sampled after this; 0: no */
	int64_t wait_until_us; /* give up then: decide again with waited = true */
	/* For the statistics. */
	bool
		discriminating; /* some healthy replica was behind the mark, so a naive choice was a risk */
	/* REASON_OBSERVED: what would have been decided. */
	enum route_target would;
	enum route_reason would_reason;
	int would_node;
};

/* Routes a plain read (the caller has already ruled out everything else). `mark` must have been
 * settled (session_settle) against `f`. `waiting_since_us` is 0 at first, else when this statement
 * began to wait: the budget counts from there. Calls nothing but other pure functions.
 * Both pinning strategies are weaker than positions: after the window, reads are monotonic only
 * while the replica read last stays eligible. */
struct route route_decide(const struct fleet *f, const struct session_mark *mark,
                          const struct route_policy *policy, int64_t waiting_since_us,
                          int64_t now_us);

#endif
