/* SPDX-License-Identifier: PostgreSQL
 *
 * The subcommands of `tidemark`. argv[0] is the subcommand's own name; the result is the exit code.
 */
#ifndef TM_CLI_CLI_H
#define TM_CLI_CLI_H

/* classify 'SQL': the verdict on a statement and the reason. Needs no server, so functions that are
 * not built in are unsafe. */
int run_classify(int argc, char **argv);

/* demo …: becomes the program tidemark-demo; returns only if it cannot be found. */
int run_demo(int argc, char **argv);

/* token inspect …, token make-key …: what a token says; a line for a key file. */
int run_token(int argc, char **argv);

/* The router itself, until it is told to end. */
int run_router(int argc, char **argv);

/* Runs fn(arg) on a thread with the stack that the parser needs (CLASSIFY_STACK) and waits for it.
 */
int run_on_big_stack(void *(*fn)(void *arg), void *arg);

#endif
