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

/* Faults every `every_us` or so. */
struct faults *faults_new(struct model *m, int64_t every_us);
void faults_heal(struct faults *f);
void faults_free(struct faults *f);

#endif
