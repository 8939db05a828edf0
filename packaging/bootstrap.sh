#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# bootstrap.sh GROUP...: installs what is missing on Debian 12 for these groups, as root or with sudo:
#
#   build  compiler, libraries                       check  what the tests drive Tidemark with
#   demo   the PostgreSQL server                     bench  the peers and the measuring tools
#   fuzz   clang and libFuzzer                       conformance  what the suites of others need
#   patroni  Patroni and etcd
#
# Installs nothing and says nothing if all is there. TIDEMARK_NO_BOOTSTRAP=1 skips it.
set -eu
cd "$(dirname "$0")/.."

build='build-essential meson ninja-build pkg-config libuv1-dev libssl-dev libpg-query-dev
	libmicrohttpd-dev libinih-dev libxxhash-dev libhiredis-dev libcmocka-dev libjansson-dev scdoc libpq-dev
	postgresql-server-dev-15'
demo='postgresql-15 postgresql-client-15 redis-server'
recipes='python3-psycopg python3-psycopg-pool python3-django python3-sqlalchemy ruby ruby-pg
	default-jdk-headless libpostgresql-jdbc-java'
check="$demo pgbouncer redis-sentinel ca-certificates chromium iproute2 nginx-light python3 python3-psycopg2 python3-pytest python3-pytest-xdist $recipes"
fuzz='clang libclang-rt-14-dev'
patroni="$demo patroni etcd-server"
conformance="$demo dpkg-dev libipc-run-perl sqlsmith pgbouncer"
bench="$demo python3 python3-psycopg2 pgbouncer pgpool2 haproxy strace valgrind"

say() {
	echo "bootstrap: $*"
}

die() {
	echo "bootstrap: $*" >&2
	exit 1
}

# Prints those of the packages that are not installed.
missing_of() {
	for package; do
		status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
		[ "$status" = installed ] || echo "$package"
	done
}

# Runs a command as root.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

# The servers that come as packages would start as services, on ports that may be in use; the project
# starts its own on free ports. Existing clusters and services are left alone.
no_cluster=/etc/postgresql-common/createcluster.d/tidemark-bootstrap.conf
no_start=/usr/sbin/policy-rc.d
made_no_start=no

hold_services() {
	if ! dpkg-query -W postgresql-common >/dev/null 2>&1; then
		as_root mkdir -p "$(dirname $no_cluster)"
		echo 'create_main_cluster = false' | as_root tee $no_cluster >/dev/null
	fi
	if [ ! -e $no_start ]; then
		printf '#!/bin/sh\nexit 101\n' | as_root tee $no_start >/dev/null
		as_root chmod 755 $no_start
		made_no_start=yes
	fi
}

release_services() {
	if [ -e $no_cluster ]; then
		as_root rm -f $no_cluster
	fi
	if [ $made_no_start = yes ]; then
		as_root rm -f $no_start
	fi
}

install_packages() {
	say "missing: $*"
	command -v apt-get >/dev/null ||
		die "this is not Debian; install the counterparts of these packages by hand"
	if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
		die "needs root or sudo; or run as root: apt-get install $*"
	fi
	trap release_services EXIT
	trap 'exit 1' INT TERM
	hold_services
	say "apt-get update"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q update </dev/null
	say "apt-get install $*"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "$@" \
		</dev/null
	release_services
	trap - EXIT INT TERM
}

# What the tests of the npm package and the example need, below .deps/ and nowhere else. All of it runs on
# Node 18.
node_packages='pg@8 pg-cursor@2 express@4 axios@1 playwright-core@1.49 typescript@5 @types/node@18 @types/pg@8'

install_node_packages() {
	[ "$(cat .deps/installed 2>/dev/null || true)" = "$node_packages" ] && return
	say "npm install $node_packages, into .deps/"
	mkdir -p .deps
	# shellcheck disable=SC2086  # a list of words
	if npm install --prefix .deps --no-fund --no-audit --loglevel=error $node_packages </dev/null; then
		echo "$node_packages" >.deps/installed
	else
		say "npm could not install them: the tests that run node will fail"
	fi
}

wanted=
with_node=no
for group; do
	case $group in
	build) wanted="$wanted $build" ;;
	demo) wanted="$wanted $demo" ;;
	check)
		wanted="$wanted $check"
		with_node=yes
		;;
	fuzz) wanted="$wanted $fuzz" ;;
	conformance) wanted="$wanted $conformance" ;;
	patroni) wanted="$wanted $patroni" ;;
	bench) wanted="$wanted $bench" ;;
	*) die "unknown group $group; expected build, demo, check, fuzz, patroni, conformance or bench" ;;
	esac
done

[ -z "${TIDEMARK_NO_BOOTSTRAP:-}" ] || exit 0
command -v dpkg-query >/dev/null ||
	die "this is not Debian; install the counterparts of these packages and set TIDEMARK_NO_BOOTSTRAP=1:$wanted"
# shellcheck disable=SC2086  # a list of words
missing=$(missing_of $wanted)
# Node may come from elsewhere than Debian.
if [ $with_node = yes ]; then
	command -v node >/dev/null || missing="$missing nodejs"
	command -v npm >/dev/null || missing="$missing npm"
fi
if [ -n "$missing" ]; then
	# shellcheck disable=SC2086
	install_packages $missing
fi
if [ $with_node = yes ]; then
	install_node_packages
fi
