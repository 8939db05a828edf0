# SPDX-License-Identifier: PostgreSQL
"""What is known to differ through Tidemark, and why; printed with the results. A test that is not named here and
fails makes the job fail; so does one that is named here and passes, so that the list does not outlive its reasons.
A name that ends in * is all that begin so, of which one at least must fail; one that ends in ? may pass as well.
"""

ACTIVITY = ("it looks for its statement in pg_stat_activity, which is the primary's, and the statement runs on a "
            "replica")
LOG = "it changes the primary's configuration and reads its log, and the statement runs on a replica"
NUMBER = ("the process number that a client is told when it connects is the router's own, for cancel requests; "
          "pg_backend_pid() and notifications tell the server's")
TERMINATE = ("pg_terminate_backend() ends a server connection; whoever idles behind the router holds none, and whoever "
             "uses it then is told")

KNOWN = {
    "pg_regress": {
        "alter_table?": "it fails directly too, where the test files are older than the server: it lists the temporary relations of "
                        "the tests that run beside it, which are other ones each time",
    },
    "psql-tap": {
        "001_basic: handling of unexpected PQresultStatus: matches": "replication connections are not supported",
        "020_cancel: *": ACTIVITY,
    },
    "pgbench-tap": {
        "001_pgbench_with_server: server parameter logging *": LOG,
        "001_pgbench_with_server: parameter report *": LOG,
    },
    "psycopg2": {
        "test_async.AsyncTests.test_notify": NUMBER,
        "test_connection.TestConnectionInfo.test_backend_pid": NUMBER,
        "test_notify.NotifiesTests.*": NUMBER,
        "test_cursor.CursorTests.test_external_close_async": TERMINATE,
    },
    "node-postgres": {
        "client/query-error-handling": ACTIVITY,
        "client/query-error-handling-prepared-statement": ACTIVITY,
        "connection-pool/error": TERMINATE,
        "gh-issues/130": TERMINATE,
    },
}
