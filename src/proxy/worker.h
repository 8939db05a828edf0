/* SPDX-License-Identifier: PostgreSQL
 *
 * The router: one loop, its listeners, clients, pools and watchers. See proxy.h for what it holds.
 */
#ifndef TM_PROXY_WORKER_H
#define TM_PROXY_WORKER_H

#include "proxy.h"

/* Listens, starts the watchers. NULL with a sentence in `error` if a listener cannot be had.
 * Borrows the settings until they are replaced or the worker is freed. */
struct worker *worker_new(const struct settings *s, char *error, size_t cap);
/* Runs until shut down. SIGTERM and SIGINT drain (a second one ends at once), SIGHUP reloads. The
 * calling thread needs a stack of CLASSIFY_STACK bytes. Returns 0 after an orderly end. */
int worker_run(struct worker *w);
/* Called on SIGHUP; it reads the configuration and calls worker_reload(), or says why not. */
void worker_set_reload(struct worker *w, bool (*fn)(void *arg), void *arg);
/* Takes the new settings over; the caller may free the old ones after that. Addresses, nodes and
 * table sizes stay as they are until a restart. */
void worker_reload(struct worker *w, const struct settings *s);
void worker_set_console(struct worker *w, console_fn fn, void *arg);
/* Changes one option of the running router; with `why` if it cannot. Gets the reload's `arg`. */
void worker_set_set(struct worker *w, bool (*fn)(void *arg, const char *name, const char *value,
                                                 char *why, size_t cap));
/* Ends after this turn of the loop. */
void worker_stop(struct worker *w);
/* Stops accepting, ends when the last client has gone; SIGTERM or worker_shutdown() hurries it. */
void worker_leave(struct worker *w);
/* Stops accepting, lets transactions end, ends. */
void worker_shutdown(struct worker *w);
void worker_free(struct worker *w);

enum drain_answer {
	DRAIN_DONE,
	DRAIN_NO_SUCH_NODE,
	DRAIN_IS_PRIMARY, /* writes have nowhere else to go */
};
/* The operator takes a replica out, or lets it in again (fleet_node_drain). What runs there ends;
 * idle connections are closed, and who waits for one looks elsewhere. Until the router ends. */
enum drain_answer worker_drain(struct worker *w, struct slice name, bool drain);

/* ---- for this folder ---- */
int worker_primary(const struct worker *w); /* node, or NODE_NONE */
void worker_make_runnable(struct worker *w, struct client *c);
void worker_arm_wait(struct worker *w);
/* A replica's position, asked on a pooled connection in this epoch: those who waited for it go on.
 */
void worker_replica_reached(struct worker *w, int node, struct position at, int64_t asked_at_us);

#endif
