#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
# include-root.sh ROOT SRC OWN [FOLDER ...]: makes ROOT a directory of links to those folders of SRC
# and nothing else, to be used as the only include path of folder OWN.
set -eu
root=$1 src=$2
shift 2
rm -rf "$root"
mkdir -p "$root"
for folder; do
	ln -s "$src/$folder" "$root/$folder"
done
