# SPDX-License-Identifier: PostgreSQL
"""Writes through the router TIDEMARK_A and reads through TIDEMARK_B (both host:port), over pooled connections, without and
with the token. The last line is "stale_without=N stale_with=N reads=N". psycopg2; the recipe is tidemark_token.py."""

import os

from psycopg2.pool import ThreadedConnectionPool

import tidemark_token

ROUNDS = int(os.environ.get("ROUNDS", "15"))
KEY = 11


def pool_of(router, size):
    host, port = router.rsplit(":", 1)
    return ThreadedConnectionPool(size, size, host=host, port=port, dbname=os.environ.get("PGDATABASE", "app"),
                                  user=os.environ.get("PGUSER", "app"), options=tidemark_token.CONNECT_OPTIONS)


def save(token, pool, n):
    with token.writing(pool) as conn, conn.cursor() as cur:
        cur.execute("UPDATE items SET n = %s WHERE id = %s", [n, KEY])


def load(token, pool):
    with token.reading(pool) as conn, conn.cursor() as cur:
        cur.execute("SELECT n FROM items WHERE id = %s", [KEY])
        return cur.fetchone()[0]


def count_stale(writes, reads, first, carried):
    """Each round is two requests, which have nothing in common but the token that the first one's answer had."""
    stale, text = 0, ""
    for n in range(first, first + ROUNDS):
        request = tidemark_token.Token(text)
        save(request, writes, n)
        text = request.text if carried else ""
        request = tidemark_token.Token(text)
        stale += load(request, reads) != n
        text = request.text if carried else ""
    return stale


def main():
    writes = pool_of(os.environ["TIDEMARK_A"], 1)
    reads = pool_of(os.environ["TIDEMARK_B"], 2)
    without = count_stale(writes, reads, 1000, carried=False)
    with_token = count_stale(writes, reads, 2000, carried=True)
    print(f"stale_without={without} stale_with={with_token} reads={ROUNDS}")


if __name__ == "__main__":
    main()
