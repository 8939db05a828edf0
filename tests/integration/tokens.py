# SPDX-License-Identifier: PostgreSQL
"""Tokens as tests make and read them: the implementation behind the vectors, which shares nothing with the router's."""

import importlib.util
import os
import time

_path = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "vectors", "make-token-vectors.py")
_spec = importlib.util.spec_from_file_location("token_vectors", _path)
vectors = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(vectors)

OLD, NEW = "7:" + "5a" * 32, "8:" + "c3" * 20
MASK = (1 << 48) - 1


def branches(text):
    """What a signed token says, without belief; [] if it is not one."""
    got = vectors.read(text)
    return got[0]["branches"] if got else []


def is_primary(text):
    """Does it only ask for the primary?"""
    got = vectors.read(text)
    return text == "primary" or bool(got and got[0]["primary"])


def sign(found, key=OLD, issued=None, session="", primary=False):
    """A token with these branches, as the holder of the key would make it."""
    issued = int(time.time()) if issued is None else issued
    return vectors.sign(vectors.read_keys([key]), session, vectors.token(*found, issued=issued, primary=primary))


def lsn(text):
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)
