# SPDX-License-Identifier: PostgreSQL
"""pg_dump and pg_restore through the way there and back: what comes back is dumped directly and must be what was
dumped directly before."""

import os
import subprocess

import harness

NAME = "pg_dump"
WHAT = "pg_dump and pg_restore, there and back"
PACKAGE = "postgresql-client-15"

OBJECTS = """
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE parted (id int, at date, m mood, p positive) PARTITION BY RANGE (at);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE parted_2 PARTITION OF parted DEFAULT;
INSERT INTO parted SELECT g, date '2020-01-01' + g, 'ok', g FROM generate_series(1, 1000) g;
CREATE TABLE quirks (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "odd Name" text COLLATE "C",
 doubled text GENERATED ALWAYS AS ("odd Name" || "odd Name") STORED, raw bytea, tags text[], doc jsonb);
INSERT INTO quirks ("odd Name", raw, tags, doc) SELECT E'tab\\t\\\\.' || g, decode(md5(g::text), 'hex'), ARRAY['a', NULL, g::text],
 jsonb_build_object('n', g) FROM generate_series(1, 1000) g;
CREATE INDEX ON quirks USING gin (doc);
CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW."odd Name" := upper(NEW."odd Name"); RETURN NEW; END $$;
CREATE TRIGGER t BEFORE INSERT ON quirks FOR EACH ROW EXECUTE FUNCTION touched();
CREATE VIEW seen AS SELECT id, doc->>'n' AS n FROM quirks WHERE id % 2 = 0;
CREATE MATERIALIZED VIEW kept AS SELECT count(*) FROM parted;
CREATE RULE r AS ON DELETE TO seen DO INSTEAD NOTHING;
ALTER TABLE quirks ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON quirks USING (id > 0);
COMMENT ON TABLE quirks IS 'it''s odd';
SELECT lo_from_bytea(424242, '\\xdeadbeef');
CREATE PUBLICATION all_of_it FOR TABLE parted;
"""


def prepare():
    return None


def command(keep, argv, **kw):
    with open(os.path.join(keep, "log"), "a") as log:
        print("$", " ".join(argv), file=log, flush=True)
        return subprocess.run(argv, stdout=kw.pop("stdout", log), stderr=log, stdin=subprocess.DEVNULL, timeout=300,
                              **kw).returncode


def at(port):
    return ["-h", harness.HOST, "-p", str(port), "-U", "postgres"]


def comparable(text):
    """Without the line's key that pg_dump draws by chance."""
    return "".join(line for line in text.splitlines(True) if not line.startswith(("\\restrict", "\\unrestrict")))


def dumped(way, keep, db):
    """Everything in a database, as the primary itself tells it."""
    return comparable(subprocess.run(["pg_dump", *at(way.fleet.primary.port), "--no-comments", db], capture_output=True,
                                     text=True, check=True).stdout)


def there_and_back(way, keep, form, db):
    file = os.path.join(way.dir, db)
    jobs = ["-j", "3"] if form == "directory" else []
    ok = command(keep, ["pg_dump", *at(way.port), "-F", form, "-f", file, *jobs, "app"]) == 0
    ok = command(keep, ["createdb", *at(way.port), "-T", "template0", db]) == 0 and ok
    if form == "plain":
        return command(keep, ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *at(way.port), "-f", file, db]) == 0 and ok
    jobs = [] if form == "tar" else ["-j", "3"]
    return command(keep, ["pg_restore", *at(way.port), "--exit-on-error", "-d", db, *jobs, file]) == 0 and ok


def run(way, _, keep):
    harness.rows(way.fleet.primary.connect(), OBJECTS)
    before, out = dumped(way, keep, "app"), {}
    for form in ("plain", "custom", "directory", "tar"):
        db = "back_" + form
        ok = there_and_back(way, keep, form, db)
        same = ok and dumped(way, keep, db) == before
        out[form] = ["ok" if same else "FAILED", None]
    globals_ = [comparable(subprocess.run(["pg_dumpall", "-g", *at(p)], capture_output=True, text=True).stdout)
                for p in (way.fleet.primary.port, way.port)]
    out["pg_dumpall -g"] = ["ok" if globals_[0] and globals_[0] == globals_[1] else "FAILED", None]
    return out
