# SPDX-License-Identifier: PostgreSQL
"""What is known to differ through Tidemark, and why; printed with the results. A test that is not named here and
fails makes the job fail; so does one that is named here and passes, so that the list does not outlive its reasons.
"""

SEQUENCE = ("nextval() may have run on another server connection than the currval() that follows in a transaction of its "
            "own: error 55000, never another client's value (docs/session-state.md)")

KNOWN = {
    "pg_regress": {
        "constraints": SEQUENCE,
        "sequence": SEQUENCE,
        "guc": "a setting under plpgsql's prefix is accepted only before plpgsql is loaded, and the pooled connection had "
               "loaded it for another client",
        "temp": "PREPARE TRANSACTION is refused where the transaction made the temporary schema, and the pooled "
                "connection had one already",
        "triggers": "a C function keeps a variable in its process between transactions, which is another process then "
                    "(docs/session-state.md, what functions leave behind)",
        "stats": "the reads it counts in the primary's pg_stat views were served by replicas",
    },
    "psql-tap": {
        "001_basic: handling of unexpected PQresultStatus: matches": "replication connections are not supported",
        "020_cancel: comes to its end": "it looks for its statement in pg_stat_activity, which is the primary's, and the "
                                        "statement runs on a replica",
    },
}
