/* SPDX-License-Identifier: PostgreSQL
 *
 * The simulated world: one virtual clock, one queue of events, one source of chance, a network of
 * named hosts. net_sim.c implements net/net.h on it, so the router's own code runs here unchanged;
 * model servers and clients use net.h too, on loops of their own (sim_loop_new()).
 *
 *   seed ─▶ chance ─▶ delays, short reads and writes, faults, workload
 *                         │
 *   events by (time, number) ─▶ turn of one loop ─▶ its net_loop_set_after() ─▶ next event
 *
 * Invariant: nothing but the seed decides what happens. No clock, no address and no descriptor of
 * the machine comes in; sim_hash() over all that happened is the same for the same seed.
 */
#ifndef TM_SIM_SIM_H
#define TM_SIM_SIM_H

#include "net/net.h"

#define SIM_HOSTS_MAX 16
#define SIM_FOREVER (INT64_C(1) << 50)

/* ---- the world ---- */
/* One at a time. `verbose` prints the trace to stdout. */
void sim_begin(uint64_t seed, bool verbose);
/* Frees all that belongs to the world. */
void sim_end(void);
uint64_t sim_hash(void);
/* Part of the trace and of the hash. */
void sim_trace(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- chance ---- */
uint64_t sim_below(uint64_t n);
int64_t sim_between(int64_t low, int64_t high);
bool sim_chance(int percent);

/* ---- hosts and links ---- */
int sim_host(const char *name);
/* A loop that lives on that host; net_loop_new() lives on "router". */
struct net_loop *sim_loop_new(const char *host);
/* Nothing passes between the two until then, in either direction; it is late, not lost. */
void sim_link_cut(int a, int b, int64_t until_us);
/* So much longer in each direction. 0: as usual. */
void sim_link_slow(int a, int b, int64_t extra_us);
/* So many packets of a hundred are sent twice, and what comes behind them waits. */
void sim_link_lossy(int a, int b, int percent);
bool sim_link_up(int a, int b);
/* Connections between the two end with a reset, or go silent: the state in the middle is lost, and
 * each end finds out only when what it sends is not acknowledged, or by its keepalive. Returns how
 * many. */
int sim_links_reset(int a, int b, int percent);
int sim_links_silent(int a, int b, int percent);
/* The host loses power: its streams are gone without a word. It answers nothing until it is up. */
void sim_host_power(int host, bool on);

/* ---- leaks ---- */
/* What loops of this host had open, and timers not freed, when they were freed. */
int sim_left_open(int host);

#endif
