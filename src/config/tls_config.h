/* SPDX-License-Identifier: PostgreSQL
 *
 * From the *_tls_* options to what OpenSSL has loaded. The files are read here, so a reload reads
 * them again, and a file that cannot be used is a fault of the configuration like any other.
 */
#ifndef TM_CONFIG_TLS_CONFIG_H
#define TM_CONFIG_TLS_CONFIG_H

#include "proxy/settings.h"

/* False: `why` gets a sentence. *out stays NULL where the mode is disable. */
[[gnu::warn_unused_result]] bool tls_config_clients(const struct tls_options *o,
                                                    struct tls_context **out, char *why,
                                                    size_t cap);

/* Fills in what the node does not say itself from `o`, and makes node->tls. Likewise. */
[[gnu::warn_unused_result]] bool tls_config_node(const struct tls_options *o,
                                                 struct watch_node *node, char *why, size_t cap);

#endif
