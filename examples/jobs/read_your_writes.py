# SPDX-License-Identifier: PostgreSQL
"""Background jobs that read what the requests that asked for them wrote. The last line is "stale_without=N stale_with=N reads=N".

Two web processes write through the routers TIDEMARK_A and TIDEMARK_B (host:port) and each queue the same job, "add up the cart"; the queue
keeps one of the two. The worker reads through TIDEMARK_B and must see both writes. The recipe is JobQueue; the token is carried over
connections by ../psycopg2/tidemark_token.py. docs/recipes/jobs.md says how it works and where it ends."""

import os
import sys

from psycopg2.pool import ThreadedConnectionPool

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "psycopg2"))
from tidemark_token import CONNECT_OPTIONS, Token, merge  # noqa: E402

ROUNDS = int(os.environ.get("ROUNDS", "15"))
CART = [17, 18]


class JobQueue:
    """Stands for any queue that knows jobs by a key. A job that waits already is not queued again: its token is merged, so that it waits
    for both who asked for it."""

    def __init__(self):
        self.jobs = {}

    def push(self, key, token):
        self.jobs[key] = merge(self.jobs.get(key, ""), token)

    def pop(self):
        return self.jobs.popitem()


def pool_of(router, size):
    host, port = router.rsplit(":", 1)
    return ThreadedConnectionPool(size, size, host=host, port=port, dbname=os.environ.get("PGDATABASE", "app"),
                                  user=os.environ.get("PGUSER", "app"), options=CONNECT_OPTIONS)


def web_request(pool, item, n):
    token = Token()
    with token.writing(pool) as conn, conn.cursor() as cur:
        cur.execute("UPDATE items SET n = %s WHERE id = %s", [n, item])
    return token.text


def work(queue, pool):
    _, text = queue.pop()
    with Token(text).reading(pool) as conn, conn.cursor() as cur:
        cur.execute("SELECT sum(n) FROM items WHERE id = ANY(%s)", [CART])
        return cur.fetchone()[0]


def count_stale(queue, pools, worker, first, carried):
    stale = 0
    for n in range(first, first + ROUNDS):
        tokens = [web_request(pool, item, n) for item, pool in zip(CART, pools)]
        # The one who commits last need not be the one who queues last: neither "keep the first" nor "keep the last" would do.
        for text in tokens if n % 2 else reversed(tokens):
            queue.push("add up the cart", text if carried else "")
        stale += work(queue, worker) != n * len(CART)
    return stale


def main():
    pools = [pool_of(os.environ["TIDEMARK_A"], 1), pool_of(os.environ["TIDEMARK_B"], 1)]
    worker = pool_of(os.environ["TIDEMARK_B"], 1)
    without = count_stale(JobQueue(), pools, worker, 1000, carried=False)
    with_token = count_stale(JobQueue(), pools, worker, 2000, carried=True)
    print(f"stale_without={without} stale_with={with_token} reads={ROUNDS}")


if __name__ == "__main__":
    main()
