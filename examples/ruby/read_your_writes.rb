# SPDX-License-Identifier: PostgreSQL
# frozen_string_literal: true

# Sends exactly the statements that Rails 7.1 sends with query_log_tags, through ruby-pg; Rails itself does not run here. The last line is
# "stale_without=N stale_with=N reads=N".
#
# Half of the rounds name the session by tag, with both connections to the router TIDEMARK_B (host:port). The other half write through
# TIDEMARK_A and read through TIDEMARK_B, and an around_action of docs/recipes/rails.md carries the token.

require "erb"
require "pg"

ROUNDS = Integer(ENV.fetch("ROUNDS", "16"))
KEY = 15

def connect(router)
  host, port = router.split(":")
  PG.connect(host: host, port: port, dbname: ENV.fetch("PGDATABASE", "app"), user: ENV.fetch("PGUSER", "app"))
end

# The statement with its comment, in the format :sqlcommenter: sorted by key, values URL-encoded, nil left out.
def tagged(sql, tags)
  pairs = { action: "update", application: "Shop", controller: "items" }.merge(tags).compact
  comment = pairs.sort_by { |key, _| key.to_s }.map { |key, value| "#{key}='#{ERB::Util.url_encode(value)}'" }.join(",")
  "#{sql} /*#{comment}*/"
end

# What item.update!(n: n) sends: prepared statements are off while query log tags are on.
def save(connection, tags, value)
  connection.async_exec(tagged("BEGIN", tags))
  connection.async_exec(tagged(%(UPDATE "items" SET "n" = #{value} WHERE "items"."id" = #{KEY}), tags))
  connection.async_exec(tagged("COMMIT", tags))
end

# What Item.find(KEY) sends, outside of a transaction.
def load(connection, tags)
  sql = %(SELECT "items".* FROM "items" WHERE "items"."id" = #{KEY} LIMIT 1)
  Integer(connection.async_exec(tagged(sql, tags)).first["n"])
end

# The user's name is all that the two requests have in common. No code: the tag is configuration.
def stale_by_session?(writes, reads, value, user)
  save(writes, { tidemark_session: user }, value)
  load(reads, { tidemark_session: user }) != value
end

# What the around_action sends. Yields, and returns the token for the answer.
def carrying(connection, text)
  connection.async_exec(tagged("SET tidemark.read_after = '#{connection.escape_string(text)}'", {})) unless text.empty?
  yield
  connection.async_exec(tagged("SHOW tidemark.token", {})).getvalue(0, 0)
end

# The token is all that the two requests have in common.
def stale_by_token?(writes, reads, value, carried)
  token = carrying(writes, "") { save(writes, {}, value) }
  shown = nil
  carrying(reads, carried ? token : "") { shown = load(reads, {}) }
  shown != value
end

a, b, other_b = %w[TIDEMARK_A TIDEMARK_B TIDEMARK_B].map { |name| connect(ENV.fetch(name)) }
half = ROUNDS / 2
stale = lambda do |first, carried|
  (first...first + half).count { |n| stale_by_session?(other_b, b, n, carried ? "user-42" : nil) } +
    (first + half...first + 2 * half).count { |n| stale_by_token?(a, b, n, carried) }
end
without = stale.call(1000, false)
with_recipe = stale.call(2000, true)
puts "stale_without=#{without} stale_with=#{with_recipe} reads=#{2 * half}"
