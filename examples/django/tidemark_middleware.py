# SPDX-License-Identifier: PostgreSQL
"""Carries a Tidemark token from request to request of a Django application. Copy this file into your project, and

    MIDDLEWARE = ["tidemark_middleware.TidemarkMiddleware", …]         # the first one, so that it sees every answer

Views need nothing. The token comes and goes in a signed cookie (browsers) or in X-Read-After (services).
docs/recipes/django.md says how it works and where it ends.
"""

import re
from contextvars import ContextVar

from django.conf import settings
from django.core.signing import BadSignature
from django.db import connections
from django.db.backends.signals import connection_created

# Two cookies, so that the answer of a read that is overtaken by a write does not take back the write's token.
WROTE, READ = COOKIES = "tidemark_wrote", "tidemark_read"
PRIMARY = "primary"  # the token of one who does not know what he has seen
MAX_AGE = 24 * 3600  # of the cookies, in seconds: longer than any replica is behind
SAFE = {"GET", "HEAD", "OPTIONS", "TRACE"}
TOKEN = re.compile(r"[\x21-\x7e]{1,2376}")
READS = {"SELECT", "SHOW", "SET", "FETCH", "EXPLAIN"}

_current = ContextVar("tidemark", default=None)


class Seen:
    """What one request brought, and what it did."""

    def __init__(self, text):
        self.text = text
        self.connections = {}  # by alias: the driver's connections that know the token
        self.wrote = False


def merge(texts):
    """One token that asks for all that these ask for. Tokens are opaque, so it is a list, each text once."""
    parts = list(dict.fromkeys(part for text in texts for part in text.split(",") if part))
    return PRIMARY if PRIMARY in parts or len(parts) > 8 else ",".join(parts)


def around_statement(execute, sql, params, many, context):
    """Before a connection's first statement for this request, it gets the request's token."""
    seen, connection = _current.get(), context["connection"]
    if seen is None or connection.vendor != "postgresql":
        return execute(sql, params, many, context)
    if seen.connections.get(connection.alias) is not connection.connection:
        seen.connections[connection.alias] = connection.connection
        if seen.text:
            with connection.connection.cursor() as cur:  # the driver's own: this statement is not Django's
                cur.execute("SET tidemark.read_after = %s", [seen.text])
    try:
        return execute(sql, params, many, context)
    finally:
        status = getattr(context["cursor"], "statusmessage", None) or "SELECT"
        seen.wrote |= status.split()[0] not in READS


def wrap(connection, **kwargs):
    if around_statement not in connection.execute_wrappers:
        connection.execute_wrappers.append(around_statement)


connection_created.connect(wrap, dispatch_uid="tidemark")


def token_of(alias):
    """The token of a connection whose transaction is over."""
    connection = connections[alias]
    try:
        with connection.connection.cursor() as cur:
            cur.execute("SHOW tidemark.token")
            return cur.fetchone()[0]
    except Exception:  # lost: who knows what became of the last statement
        return PRIMARY


class TidemarkMiddleware:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        seen = Seen(merge([*self.from_cookies(request), self.from_header(request)]))
        for connection in connections.all():  # those that were open before this module was loaded
            wrap(connection)
        before = _current.set(seen)
        try:
            response = self.get_response(request)  # ATOMIC_REQUESTS commits within
        finally:
            _current.reset(before)
        wrote = seen.wrote or request.method not in SAFE
        if wrote or self.is_identified(request, response, seen):
            self.answer(request, response, seen, WROTE if wrote else READ)
        return response

    def from_cookies(self, request):
        for name in COOKIES:
            if name in request.COOKIES:
                try:
                    yield request.get_signed_cookie(name, salt=name, max_age=MAX_AGE)
                except BadSignature:
                    yield PRIMARY  # expired or made up: not the same as none

    def from_header(self, request):
        text = request.headers.get("X-Read-After", "")
        return text if not text or TOKEN.fullmatch(text) else PRIMARY

    def answer(self, request, response, seen, cookie):
        if seen.connections:
            seen.text = merge(token_of(alias) for alias in seen.connections)
            response.set_signed_cookie(cookie, seen.text, salt=cookie, max_age=MAX_AGE, httponly=True, samesite="Lax",
                                       secure=request.is_secure())
        if seen.text:
            response["X-Read-After"] = seen.text
        cache = response.get("Cache-Control", "").lower()
        if not cache or re.search(r"\bpublic\b|s-maxage|stale-", cache):
            response["Cache-Control"] = "private, no-store"

    def is_identified(self, request, response, seen):
        return bool(seen.text or response.cookies or settings.SESSION_COOKIE_NAME in request.COOKIES
                    or "Authorization" in request.headers)
