/* SPDX-License-Identifier: PostgreSQL
 *
 * What goes wrong in a run, by seed: faults_new() draws a plan and carries it out on the virtual
 * clock; faults_heal() makes everything whole again.
 */
#ifndef TM_SIM_FAULTS_H
#define TM_SIM_FAULTS_H

#include "model_client.h"
#include "model_pg.h"

struct faults;

struct faults_settings {
	int64_t every_us; /* or so */
	bool failover;
	bool lossy; /* acknowledged writes may be lost: nobody is judged until the router knows */
};

struct faults *faults_new(const struct faults_settings *s, struct model *m, struct clients *c);
/* Two servers take writes, and one of them for nothing. */
bool faults_stray(const struct faults *f);
void faults_heal(struct faults *f);
void faults_free(struct faults *f);

#endif
