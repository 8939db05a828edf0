/* SPDX-License-Identifier: PostgreSQL */
#include "opaque.h"
#include "lex.h"

/* Where in a statement a word stands. */
enum place { PLACE_FIRST, PLACE_CREATED, PLACE_INSIDE };

static bool word_in(struct slice word, const char *const *list)
{
	for (; *list; list++)
		if (slice_ieq_str(word, *list))
			return true;
	return false;
}

static bool word_begins(struct slice word, const char *prefix)
{
	return word.len >= strlen(prefix) && slice_ieq_str(slice_of(word.ptr, strlen(prefix)), prefix);
}

static bool leaves_state(struct slice word, enum place place)
{
	static const char *const first[] = {"set",     "reset",   "listen", "prepare",
	                                    "declare", "discard", "load",   NULL};
	static const char *const temporary[] = {"temp", "temporary", NULL};
	static const char *const functions[] = {"set_config", "setseed", NULL};
	if (place == PLACE_FIRST)
		return word_in(word, first);
	if (place == PLACE_CREATED && word_in(word, temporary))
		return true;
	return word_in(word, functions) || word_begins(word, "pg_advisory_lock") ||
	       word_begins(word, "pg_try_advisory_lock") || word_begins(word, "pg_temp");
}

static bool changes_catalog(struct slice word)
{
	static const char *const words[] = {"create", "alter", "drop", NULL};
	return word_in(word, words);
}

/* CREATE [OR REPLACE] [GLOBAL] TEMP, SELECT … INTO [LOCAL] TEMP */
static enum place place_after(enum place place, struct slice word)
{
	static const char *const openers[] = {"create", "into", NULL};
	static const char *const between[] = {"or", "replace", "global", "local", NULL};
	if (word_in(word, openers))
		return PLACE_CREATED;
	return place == PLACE_CREATED && word_in(word, between) ? PLACE_CREATED : PLACE_INSIDE;
}

static void take_word(struct slice word, enum place place, struct traits *t)
{
	if (leaves_state(word, place)) {
		t->flags |= TRAIT_BINDS;
		t->binds = BIND_SETTINGS;
	}
	if (place == PLACE_FIRST && changes_catalog(word))
		t->flags |= TRAIT_DDL;
}

struct traits opaque_traits(struct slice text, enum route_reason reason)
{
	struct traits t = {.flags = TRAIT_MAY_WRITE | TRAIT_USER_CODE | TRAIT_CODE_SETS, .reason = (uint8_t)reason};
	enum place place = PLACE_FIRST;
	for (size_t i = lex_skip_space(text, 0); i < text.len; i = lex_skip_space(text, i)) {
		size_t end = lex_comment_end(text, i);
		if (end == LEX_UNTERMINATED)
			break;
		if (end == i) {
			end = lex_token_end(text, i);
			struct slice word = slice_of(text.ptr + i, end - i);
			if (lex_is_word(word.ptr[0])) {
				take_word(word, place, &t);
				place = place_after(place, word);
			} else {
				place = word.ptr[0] == ';' ? PLACE_FIRST : PLACE_INSIDE;
			}
		}
		i = end;
	}
	return t;
}
