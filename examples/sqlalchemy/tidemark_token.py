# SPDX-License-Identifier: PostgreSQL
"""Carries a Tidemark token over the pooled connections of SQLAlchemy. Copy this file into your application.

    writer = tidemark_token.install(create_engine(url))
    reader = tidemark_token.install(create_engine(url, isolation_level="AUTOCOMMIT"))   # its SELECTs may go to replicas

    with tidemark_token.request(text_that_came_with_the_request) as token:
        with Session(writer) as session: ...     # or writer.begin(): one transaction, on the primary
        with Session(reader) as session: ...     # or reader.connect()
    text_for_the_response = token.text

The events do the rest. docs/recipes/sqlalchemy.md says how it works and where it ends.
"""

from contextlib import contextmanager
from contextvars import ContextVar

from sqlalchemy import event, exc

PRIMARY = "primary"  # the token of one who does not know what he has seen
_current = ContextVar("tidemark_token", default=None)


class Token:
    """What one user has seen. An object, so that tasks and threads started within the request share it."""

    def __init__(self, text=""):
        self.text = text


@contextmanager
def request(text=""):
    token = Token(text)
    before = _current.set(token)
    try:
        yield token
    finally:
        _current.reset(before)


def merge(*texts):
    """One token that asks for all that these ask for. Tokens are opaque, so it is a list, each text once."""
    parts = list(dict.fromkeys(part for text in texts for part in (text or "").split(",") if part))
    return PRIMARY if PRIMARY in parts or len(parts) > 8 else ",".join(parts)


def _ask(driver_connection, *statement):
    """One statement outside any transaction, on a psycopg2 connection that is in none."""
    before = driver_connection.autocommit
    driver_connection.autocommit = True
    try:
        with driver_connection.cursor() as cur:
            cur.execute(*statement)
            return cur.fetchone()[0] if cur.description else None
    finally:
        driver_connection.autocommit = before


def _checkout(driver_connection, record, proxy):
    token = _current.get()
    record.info["tidemark_brought"] = token.text if token else None
    if token and token.text:
        try:
            _ask(driver_connection, "SET tidemark.read_after = %s", [token.text])
        except Exception as e:
            if driver_connection.closed:
                raise exc.DisconnectionError() from e  # the pool tries another one
            raise


def _checkin(driver_connection, record):
    token, brought = _current.get(), record.info.pop("tidemark_brought", None)
    if token is None or brought is None:
        return
    try:
        text = _ask(driver_connection, "SHOW tidemark.token")
    except Exception:  # lost (then it is None), or left in a transaction: who knows what it has seen
        text = PRIMARY
    # The connection's token covers what was brought to it. What another connection took meanwhile, it may not.
    token.text = text if token.text == brought else merge(token.text, text)


def install(engine):
    event.listen(engine, "checkout", _checkout)
    event.listen(engine, "checkin", _checkin)
    return engine
