# SPDX-License-Identifier: PostgreSQL
"""Writes through the router TIDEMARK_A and reads through TIDEMARK_B (both host:port), in a browser's requests to two Django
applications, without and with the token. The last line is "stale_without=N stale_with=N reads=N". The recipe is tidemark_middleware.py.

Both applications live in this process: the alias "default" stands for the one behind A, which has ATOMIC_REQUESTS, and "b" for the one
behind B."""

import os
import sys

import django
from django.conf import settings

ROUNDS = int(os.environ.get("ROUNDS", "15"))
KEY = 14


def database(router, **more):
    host, port = router.rsplit(":", 1)
    return {"ENGINE": "django.db.backends.postgresql", "HOST": host, "PORT": port, "NAME": os.environ.get("PGDATABASE", "app"),
            "USER": os.environ.get("PGUSER", "app"), "CONN_MAX_AGE": None, **more}


settings.configure(
    SECRET_KEY="for this example", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"], USE_TZ=True,
    MIDDLEWARE=["tidemark_middleware.TidemarkMiddleware"],
    DATABASES={"default": database(os.environ["TIDEMARK_A"], ATOMIC_REQUESTS=True), "b": database(os.environ["TIDEMARK_B"])})
django.setup()

from django.db import connections, models  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.test import Client, override_settings  # noqa: E402
from django.urls import path  # noqa: E402


class Item(models.Model):
    n = models.IntegerField()

    class Meta:
        app_label = "shop"
        db_table = "items"


def save(request, n):
    item = Item.objects.get(pk=KEY)
    item.n = n
    item.save()
    return JsonResponse({})


def show(request):
    return JsonResponse({"n": Item.objects.using("b").get(pk=KEY).n})


urlpatterns = [path("save/<int:n>", save), path("show", show)]


def count_stale(first):
    browser = Client()
    stale = 0
    for n in range(first, first + ROUNDS):
        browser.post(f"/save/{n}")
        shown = browser.get("/show")
        stale += shown.json()["n"] != n
        if settings.MIDDLEWARE and shown.get("Cache-Control") != "private, no-store":
            sys.exit(f"the answer to an identified request may be cached: {shown.get('Cache-Control')}")
    return stale


def main():
    with override_settings(MIDDLEWARE=[]):
        without = count_stale(1000)
    with_token = count_stale(2000)
    connections.close_all()
    print(f"stale_without={without} stale_with={with_token} reads={ROUNDS}")


if __name__ == "__main__":
    main()
