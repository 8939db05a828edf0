/* SPDX-License-Identifier: PostgreSQL
 *
 * The boot key is "<written at, ms> <ttl, ms> <incarnation>"; its ttl is the greatest that any
 * router has asked for since, and counts for all. Numbers stay below 2^53, and Lua prints fourteen
 * digits of them: enough for milliseconds until the year 5138.
 */
#include "scripts.h"

/* Leaves `now`, `ttl` and `doubt`. Before Redis 5, scripts that ask for the time must say that
 * their effects are to be replicated. */
#define PROLOGUE                                                                     \
	"if redis.replicate_commands then redis.replicate_commands() end\n"              \
	"local call, now, ttl, doubt = redis.call, nil, tonumber(ARGV[2]), 1\n"          \
	"now = call('TIME')\n"                                                           \
	"now = now[1] * 1000 + math.floor(now[2] / 1000)\n"                              \
	"local function boot(at)\n"                                                      \
	"  call('SET', KEYS[1], string.format('%d %d %s', at, ttl, ARGV[1]))\n"          \
	"end\n"                                                                          \
	"local at, kept, of = string.match(call('GET', KEYS[1]) or '',\n"                \
	"                                  '^(%d+) (%d+) (.+)$')\n"                      \
	"if of ~= ARGV[1] then\n"                                                        \
	"  boot(now)\n"                                                                  \
	"else\n"                                                                         \
	"  at, kept = tonumber(at), tonumber(kept)\n"                                    \
	"  if kept < ttl then boot(at) else ttl = kept end\n"                            \
	"  if now - at >= ttl then\n"                                                    \
	"    doubt = 0\n"                                                                \
	"    for _, router in ipairs(call('ZRANGEBYSCORE', KEYS[2],\n"                   \
	"                                 '(' .. (now - ttl), now, 'LIMIT', 0, 2)) do\n" \
	"      if router ~= ARGV[3] then doubt = 1 end\n"                                \
	"    end\n"                                                                      \
	"  end\n"                                                                        \
	"end\n"

/* PERSIST changes nothing. It is there because it counts as a write: a replica refuses it, and so
 * does a master that min-replicas-to-write stops. The time to live is renewed when half of it is
 * gone, so that reads are rarely written to disk and to replicas. */
#define GET                                                  \
	"call('PERSIST', KEYS[1])\n"                             \
	"local mark = redis.pcall('GET', KEYS[3])\n"             \
	"if type(mark) == 'table' then\n"                        \
	"  mark, doubt = false, 1\n"                             \
	"elseif mark and call('PTTL', KEYS[3]) * 2 < ttl then\n" \
	"  call('PEXPIRE', KEYS[3], ttl)\n"                      \
	"end\n"                                                  \
	"return {mark, doubt}\n"

/* Lua compares text by the locale's rules, so eight digits at a time are compared as numbers. */
#define PUT                                                                         \
	"local mark, old = ARGV[4], redis.pcall('GET', KEYS[3])\n"                      \
	"local later = true\n"                                                          \
	"if type(old) == 'string' and #old == 40 and string.match(old, '^%x+$') then\n" \
	"  later = false\n"                                                             \
	"  for i = 1, 33, 8 do\n"                                                       \
	"    local a = tonumber(string.sub(mark, i, i + 7), 16)\n"                      \
	"    local b = tonumber(string.sub(old, i, i + 7), 16)\n"                       \
	"    if a ~= b then later = a > b; break end\n"                                 \
	"  end\n"                                                                       \
	"end\n"                                                                         \
	"if later then\n"                                                               \
	"  call('SET', KEYS[3], mark, 'PX', ttl)\n"                                     \
	"else\n"                                                                        \
	"  call('PEXPIRE', KEYS[3], ttl)\n"                                             \
	"end\n"                                                                         \
	"return 1\n"

/* A lease never gets shorter: heartbeats of a lost connection may be read late. */
#define HEARTBEAT                                              \
	"call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ttl)\n"   \
	"local mine = call('ZSCORE', KEYS[2], ARGV[3])\n"          \
	"if not mine or tonumber(mine) < tonumber(ARGV[4]) then\n" \
	"  call('ZADD', KEYS[2], ARGV[4], ARGV[3])\n"              \
	"end\n"                                                    \
	"return {now, doubt}\n"

/* The lease goes too: it may end too late, if the clock was found to have gone back. */
#define VOID                           \
	"boot(now)\n"                      \
	"call('ZREM', KEYS[2], ARGV[3])\n" \
	"return 1\n"

const char *const script_texts[SCRIPTS] = {
	[SCRIPT_GET] = PROLOGUE GET,
	[SCRIPT_PUT] = PROLOGUE PUT,
	[SCRIPT_HEARTBEAT] = PROLOGUE HEARTBEAT,
	[SCRIPT_VOID] = PROLOGUE VOID,
};
