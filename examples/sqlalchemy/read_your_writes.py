# SPDX-License-Identifier: PostgreSQL
"""Writes through the router TIDEMARK_A and reads through TIDEMARK_B (both host:port), over pooled connections, without and
with the token. The last line is "stale_without=N stale_with=N reads=N". SQLAlchemy; the recipe is tidemark_token.py."""

import os

from sqlalchemy import Column, Integer, create_engine
from sqlalchemy.orm import Session, declarative_base

import tidemark_token

ROUNDS = int(os.environ.get("ROUNDS", "15"))
KEY = 13

Base = declarative_base()


class Item(Base):
    __tablename__ = "items"
    id = Column(Integer, primary_key=True)
    n = Column(Integer)


def engine_of(router, size, **options):
    user, db = os.environ.get("PGUSER", "app"), os.environ.get("PGDATABASE", "app")
    return tidemark_token.install(create_engine(f"postgresql+psycopg2://{user}@{router}/{db}", pool_size=size, **options))


def save(engine, n):
    with Session(engine) as session:
        session.get(Item, KEY).n = n
        session.commit()


def load(engine):
    with Session(engine) as session:
        return session.get(Item, KEY).n


def count_stale(writer, reader, first, carried):
    """Each round is two requests, which have nothing in common but the token that the first one's answer had."""
    stale, text = 0, ""
    for n in range(first, first + ROUNDS):
        with tidemark_token.request(text) as token:
            save(writer, n)
        text = token.text if carried else ""
        with tidemark_token.request(text) as token:
            stale += load(reader) != n
        text = token.text if carried else ""
    return stale


def main():
    writer = engine_of(os.environ["TIDEMARK_A"], 1)
    reader = engine_of(os.environ["TIDEMARK_B"], 2, isolation_level="AUTOCOMMIT")
    without = count_stale(writer, reader, 1000, carried=False)
    with_token = count_stale(writer, reader, 2000, carried=True)
    print(f"stale_without={without} stale_with={with_token} reads={ROUNDS}")


if __name__ == "__main__":
    main()
