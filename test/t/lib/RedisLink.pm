# The link to Redis as SQL functions, which are in a library of the tests (test/module/link_test.cpp): each session has one link.
package RedisLink;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use Digest::SHA ();
use FindBin;
use ApikeyTest;
use Test::More;
use Time::HiRes ();

our @EXPORT = qw(new_link_cluster open_link link_eval refusal is_refused);

# A cluster with the functions in database postgres, and no extension.
sub new_link_cluster
{
	my ($name, %options) = @_;
	my $node = new_cluster($name, preload => 0, extension => 0, %options);
	my ($library) = grep { -e "$_.so" || -e "$_.dylib" }
	  map { "$_/apikey_wall_test" } "$FindBin::RealBin/../../module", "$FindBin::RealBin/../../build/module";
	die 'the library of the tests is not there: make test-module' unless defined $library;
	my %functions = (
		"link_open(url text, password_file text DEFAULT '', ca_file text DEFAULT '', certificate_file text DEFAULT '', key_file text DEFAULT '',"
		  . " connect_timeout integer DEFAULT 1000, timeout integer DEFAULT 2000, routing_keys text[] DEFAULT '{}',"
		  . " sentinel_user text DEFAULT '', sentinel_password_file text DEFAULT '', masters text DEFAULT '')" => 'void',
		'link_reconnect()' => 'void',
		'link_close()' => 'void',
		'link_connected()' => 'boolean',
		'link_send(commands text, times integer DEFAULT 1)' => 'text',
		'link_eval(source text, sha1 text, keys text[], arguments text[], times integer DEFAULT 1)' => 'text',
		'link_echo(count integer, size integer)' => 'bigint',
		'link_servers()' => 'text',
		'link_counters(OUT sent bigint, OUT received bigint, OUT reloads bigint)' => 'record');
	for my $signature (sort keys %functions)
	{
		my ($function) = $signature =~ /^(\w+)/;
		value($node, "CREATE FUNCTION $signature RETURNS $functions{$signature} LANGUAGE c AS " . literal($library) . ", '$function'");
	}
	return $node;
}

# Connects; options are the arguments of link_open(). Dies when it cannot.
sub open_link
{
	my ($session, $url, %options) = @_;
	return value($session, 'SELECT link_open(' . arguments(url => $url, %options) . ')');
}

# What a script answers; keys and arguments are references to arrays.
sub link_eval
{
	my ($session, $source, $keys, $arguments, %options) = @_;
	my @lists = map { 'ARRAY[' . join(', ', map { literal($_) } @$_) . ']::text[]' } $keys, $arguments // [];
	my $sha1 = $options{sha1} // Digest::SHA::sha1_hex($source);
	return value($session, 'SELECT link_eval(' . join(', ', literal($source), literal($sha1), @lists, $options{times} // 1) . ')');
}

# What the link says when it does not work, and how many seconds that took. Dies when it does work, and of any other error.
sub refusal
{
	my ($session, $sql) = @_;
	my $begun = Time::HiRes::time();
	my %failure = failure($session, $sql);
	my $seconds = Time::HiRes::time() - $begun;
	die "no error: $sql" unless %failure;
	die "another error than the link's: $failure{sqlstate}: $failure{message}" if $failure{sqlstate} ne '08006';
	return ($failure{message}, $seconds);
}

# is_refused($session, $sql, qr/…/, 'what', within => seconds): refused with such a message, and then the link is closed.
sub is_refused
{
	my ($session, $sql, $expected, $what, %options) = @_;
	my ($message, $seconds) = refusal($session, $sql);
	like($message, $expected, $what);
	cmp_ok($seconds, '<', $options{within}, "$what: within $options{within} s") if defined $options{within};
	is(value($session, 'SELECT link_connected()'), 'f', "$what: the link is closed");
	return $seconds;
}

1;
