# SPDX-License-Identifier: PostgreSQL
"""What Django does on a server whose time zone is not its own, HOST:PORT given: set_config('TimeZone', …) at each
connect. Prints the zone's hours and the server's name that a few requests saw; the connection stays until standard input ends."""

import json
import sys
import time

import django
from django.conf import settings

host, port = sys.argv[1].rsplit(":", 1)
settings.configure(USE_TZ=True, TIME_ZONE="UTC", DATABASES={"default": {
    "ENGINE": "django.db.backends.postgresql", "HOST": host, "PORT": port, "NAME": "app", "USER": "app"}})
django.setup()

from django.db import connection, transaction  # noqa: E402


def look():
    with connection.cursor() as c:
        c.execute("SELECT to_char('2020-01-01 00:00+00'::timestamptz, 'TZH ') || node_name() FROM items WHERE id = 1")
        return c.fetchone()[0]


seen = set()
for _ in range(30):
    seen.add(look())
    time.sleep(0.02)  # replicas may be behind what the connect showed
with transaction.atomic():
    seen.add(look())
print(json.dumps(sorted(seen)), flush=True)
sys.stdin.read()
