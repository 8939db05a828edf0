#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# archive.sh LD OBJCOPY AR OUT OBJECT...: a static library that defines the public symbols and no others. The
# objects become one, in which what is hidden is made local: a name such as token_sign() must not meet
# the application's own.
set -eu
ld=$1 objcopy=$2 ar=$3 out=$4
shift 4
whole=$out.o
"$ld" -r -o "$whole" "$@"
"$objcopy" --localize-hidden "$whole"
rm -f "$out"
"$ar" -crsD "$out" "$whole"
rm -f "$whole"
