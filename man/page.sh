#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
# page.sh SCDOC TEMPLATE OPTIONS: prints the man page; the line @OPTIONS@ becomes the file OPTIONS.
set -eu
sed -e "/^@OPTIONS@\$/{r $3
d}" "$2" | "$1"
