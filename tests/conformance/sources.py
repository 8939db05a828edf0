# SPDX-License-Identifier: PostgreSQL
"""Where the suites of others come from: Debian's source packages and npm, into .deps/conformance/, never into
the repository.

    source("postgresql-15")   the unpacked tree, as a path; raises Unavailable, with the reason

apt-get is given lists and caches of its own: the machine's sources.list and lists are not touched.
"""

import glob
import os
import shutil
import subprocess

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
CACHE = os.path.join(ROOT, ".deps", "conformance")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class Unavailable(Exception):
    """What was asked for cannot be had here. The suite that needs it is skipped, and says so."""


def last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no word"


def run(argv, cwd):
    r = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if r.returncode != 0:
        errors = [line for line in (r.stdout + r.stderr).splitlines() if line.startswith("E: ")]
        raise Unavailable(errors[0] if errors else last_line(r.stderr + r.stdout))


def mirrors():
    """The mirrors and releases that the machine's binary packages come from, as deb-src lines."""
    policy = subprocess.run(["apt-cache", "policy"], capture_output=True, text=True).stdout
    seen = []
    for line in policy.splitlines():
        words = line.split()
        if len(words) >= 3 and words[1].startswith("http") and "debian" in words[1] and words[2].endswith("/main"):
            entry = f"deb-src [signed-by={KEYRING}] {words[1]} {words[2].split('/')[0]} main"
            if entry not in seen:
                seen.append(entry)
    return seen


def apt_options():
    for sub in ("apt/lists/partial", "apt/cache/archives/partial"):
        os.makedirs(os.path.join(CACHE, sub), exist_ok=True)
    listing = os.path.join(CACHE, "apt", "sources.list")
    with open(listing, "w") as f:
        f.write("\n".join(mirrors()) + "\n")
    return ["-o", f"Dir::Etc::sourcelist={listing}", "-o", "Dir::Etc::sourceparts=-",
            "-o", f"Dir::State::lists={CACHE}/apt/lists", "-o", f"Dir::Cache={CACHE}/apt/cache",
            "-o", "APT::Sandbox::User=root", "-q"]


_updated = []


def debian_source(package):
    if shutil.which("apt-get") is None or shutil.which("dpkg-source") is None:
        raise Unavailable("no apt-get and dpkg-source (packages apt, dpkg-dev) here")
    into = os.path.join(CACHE, "debian", package)
    done = sorted(glob.glob(os.path.join(into, "*", "")))
    if done:
        return done[0].rstrip("/")
    options = apt_options()
    os.makedirs(into, exist_ok=True)
    if not _updated:
        run(["apt-get", *options, "update"], into)
        _updated.append(True)
    # Of the version that is installed, where the mirror still has it.
    run(["apt-get", *options, "source", package], into)
    done = sorted(glob.glob(os.path.join(into, "*", "")))
    if not done:
        raise Unavailable(f"apt-get source {package} unpacked nothing")
    return done[0].rstrip("/")


def npm_package(name):
    into = os.path.join(CACHE, "npm", name)
    if not os.path.isdir(os.path.join(into, "package")):
        os.makedirs(into, exist_ok=True)
        run(["npm", "pack", "--silent", name], into)
        run(["tar", "xzf", glob.glob(os.path.join(into, "*.tgz"))[0]], into)
    return os.path.join(into, "package")


def source(package, needs):
    """The tree of a Debian source package ("psycopg2") or an npm package ("npm/pg"), if it has the path
    `needs`, which is what the suite is about: some packages come without their tests."""
    tree = npm_package(package[4:]) if package.startswith("npm/") else debian_source(package)
    if not os.path.exists(os.path.join(tree, needs)):
        raise Unavailable(f"{package} comes without {needs}")
    return tree


def origin(package):
    return "npm" if package.startswith("npm/") else "Debian source package"
