# SPDX-License-Identifier: PostgreSQL
#
# Loaded before a TAP test of PostgreSQL's (perl -MThroughRouter t/….pl): the servers that the test makes get two
# asynchronous standbys, and what it connects to is the router in front of them. The router's command is in
# CONFORMANCE_ROUTER, with PRIMARY_PORT, REPLICA1_PORT, REPLICA2_PORT, PORT and DIR for what is only known here;
# without it the standbys are made and nobody stands between.
package ThroughRouter;

use strict;
use warnings;

use IO::Socket::UNIX;
use PostgreSQL::Test::Cluster;

my $class = 'PostgreSQL::Test::Cluster';
my %of;    # node's name => its router's process, its standbys
our $making = 0; # no standbys of the standbys

sub overridden
{
	my ($name, $code) = @_;
	no strict 'refs';
	no warnings 'redefine';
	my $original = \&{"${class}::$name"};
	*{"${class}::$name"} = sub { $code->($original, @_) };
}

# Room for standbys, and for pools.
overridden(
	init => sub {
		my ($original, $self, %params) = @_;
		$original->($self, %params, allows_streaming => 1);
		$self->append_conf('postgresql.conf',
			"max_connections = 150\nshared_buffers = 24MB\nautovacuum = off\nallow_in_place_tablespaces = on\n");
	});

overridden(
	start => sub {
		my ($original, $self, @params) = @_;
		my $done = $original->($self, @params);
		follow($self) unless $making || $of{ $self->name };
		return $done;
	});

# The standbys share the machine: a tablespace has to lie within their data directories.
overridden(
	safe_psql => sub {
		my ($original, $self, $db, $sql, @rest) = @_;
		$sql =~ s/(CREATE TABLESPACE \S+ LOCATION) '[^']*'/$1 ''/;
		return $original->($self, $db, $sql, @rest);
	});

sub follow
{
	my ($node) = @_;
	local $making = 1;
	$node->backup('standbys');
	my @standbys;
	for my $i (1, 2)
	{
		my $standby = $class->new($node->name . "_standby$i");
		$standby->init_from_backup($node, 'standbys', has_streaming => 1);
		$standby->start;
		push @standbys, $standby;
	}
	$of{ $node->name } = { standbys => \@standbys, pid => route($node, @standbys) };
	return;
}

sub route
{
	my ($node, @standbys) = @_;
	my $command = $ENV{CONFORMANCE_ROUTER} or return;
	my %known = (
		PRIMARY_PORT => $node->port,
		REPLICA1_PORT => $standbys[0]->port,
		REPLICA2_PORT => $standbys[1]->port,
		PORT => PostgreSQL::Test::Cluster::get_free_port(),
		DIR => $node->host);
	$command =~ s/\b$_\b/$known{$_}/g for keys %known;
	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		open STDOUT, '>>', $node->basedir . '/router.log';
		open STDERR, '>&', \*STDOUT;
		exec "exec $command";
	}
	my $socket = "$known{DIR}/.s.PGSQL.$known{PORT}";
	for (1 .. 100)
	{
		last if IO::Socket::UNIX->new(Peer => $socket);
		select undef, undef, undef, 0.1;
	}
	# Until it knows the standbys' positions and the catalog.
	sleep 1;
	$node->{_port} = $known{PORT};
	return $pid;
}

END
{
	my $status = $?;
	kill 'TERM', map { $_->{pid} // () } values %of;
	waitpid $_->{pid}, 0 for grep { $_->{pid} } values %of;
	$? = $status;
}

1;
