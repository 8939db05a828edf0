/* SPDX-License-Identifier: PostgreSQL
 *
 * Rules in the format of pg_hba.conf and maps in that of pg_ident.conf: who may come from where, and
 * how he has to prove who he is. Pure: text in, verdict out. The first rule that matches decides;
 * without one nobody comes in. A line that is not understood in full is a fault of the whole file:
 * to skip it could let in whom it was to keep out.
 *
 * https://www.postgresql.org/docs/15/auth-pg-hba-conf.html
 */
#ifndef TM_PROXY_HBA_H
#define TM_PROXY_HBA_H

#include "base/slice.h"

enum hba_method {
	HBA_REJECT, /* zeroed: nobody */
	HBA_TRUST,
	HBA_MD5, /* SCRAM for those with such a secret, as PostgreSQL does */
	HBA_SCRAM,
	HBA_PASSWORD,
	HBA_CERT,
	HBA_PEER,
};

enum hba_clientcert { HBA_CLIENTCERT_NONE, HBA_CLIENTCERT_CA, HBA_CLIENTCERT_FULL };

#define HBA_NAME_MAX 64
#define HBA_RULES_MAX 4096
#define HBA_NAMES_MAX 256 /* in one list */
#define HBA_LINE_MAX 8192

struct hba;

/* A fault of one line (0: of the file), with what would be right. */
typedef void (*hba_fault_fn)(void *arg, int line, const char *what);

/* NULL if there was a fault; all are told. `ident` may be empty. */
[[gnu::warn_unused_result]] struct hba *hba_parse(struct slice rules, struct slice ident,
                                                  hba_fault_fn rules_fault,
                                                  hba_fault_fn ident_fault, void *arg);
/* NULL is fine. */
void hba_free(struct hba *h);
bool hba_has_cert(const struct hba *h);

/* Who comes. */
struct hba_peer {
	bool local; /* by a unix socket */
	bool tls;
	bool is_v6;          /* else IPv4, in the first four bytes */
	uint8_t address[16]; /* as on the wire */
	const char *database, *user;
};

struct hba_rule;
/* NULL: no rule matches. */
const struct hba_rule *hba_find(const struct hba *h, const struct hba_peer *p);
enum hba_method hba_rule_method(const struct hba_rule *r);
enum hba_clientcert hba_rule_clientcert(const struct hba_rule *r);
/* May somebody whom the system (a certificate, the kernel) knows as `system_user` be `user`? */
bool hba_user_fits(const struct hba *h, const struct hba_rule *r, const char *system_user,
                   const char *user);

#endif
