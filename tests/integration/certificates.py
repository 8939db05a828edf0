# SPDX-License-Identifier: PostgreSQL
"""Authorities and certificates for tests, made with the openssl command."""

import subprocess

NEW = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def authority(d, name, new=NEW):
    openssl("req", "-x509", *new, "-days", "2", "-subj", f"/CN={name}", "-keyout", d / f"{name}.key", "-out",
            d / f"{name}.crt")


def certificate(d, file, subject, signed_by="ca", names="DNS:localhost,IP:127.0.0.1", days=2, digest="-sha256"):
    """<file>.crt and <file>.key. `days` below zero: it has expired."""
    (d / "names").write_text(f"subjectAltName={names}\n")
    openssl("req", *NEW, "-subj", subject, "-keyout", d / f"{file}.key", "-out", d / f"{file}.csr")
    openssl("x509", "-req", *([digest] if digest else []), "-in", d / f"{file}.csr", "-CA", d / f"{signed_by}.crt", "-CAkey",
            d / f"{signed_by}.key", "-CAcreateserial", "-days", days, "-extfile", d / "names", "-out",
            d / f"{file}.crt")
    (d / f"{file}.key").chmod(0o600)
