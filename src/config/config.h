/* SPDX-License-Identifier: PostgreSQL
 *
 * From the command line and the file it names to struct settings. All or nothing: with one fault
 * there are no settings, and every fault is told.
 */
#ifndef TM_CONFIG_CONFIG_H
#define TM_CONFIG_CONFIG_H

#include "base/buf.h"
#include "errors.h"
#include "proxy/settings.h"

enum config_action { CONFIG_LOAD, CONFIG_HELP, CONFIG_VERSION };

/* Whether the command line only asks for --help or --version. argv[0] is skipped. */
enum config_action config_action(int argc, char **argv);

/* NULL with errors->count > 0. A reload calls it again with the same command line. The caller frees
 * with config_free(). Not to be called from two threads at once (inih's knobs are global). */
[[gnu::warn_unused_result]] struct settings *config_load(int argc, char **argv,
                                                         struct config_errors *errors);
/* The same; `notes` gets what a pgbouncer.ini (--from) says that is not needed or not honoured
 * here. */
[[gnu::warn_unused_result]] struct settings *config_load_noting(int argc, char **argv,
                                                                struct config_errors *errors,
                                                                struct config_errors *notes);
/* Only the text that --from is translated to; it holds secrets. */
[[gnu::warn_unused_result]] bool config_translate(int argc, char **argv, struct buf *out,
                                                  struct config_errors *errors,
                                                  struct config_errors *notes);
/* Changes one option in place: a number, a switch or a word, of which nothing else is derived
 * (option_changeable). False with `why`, and nothing changed. */
[[gnu::warn_unused_result]] bool config_change(struct settings *s, const char *name,
                                               const char *value, char *why, size_t cap);
/* Wipes the secrets. NULL is nothing. */
void config_free(struct settings *s);

/* What a reload cannot change is put back in `next` as it is in `now`, so that the settings
 * describe the process; calls `fn` with the name of each such option that differed. */
void config_keep_fixed(struct settings *next, const struct settings *now,
                       void (*fn)(void *arg, const char *name), void *arg);

#endif
