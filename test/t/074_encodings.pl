# Databases in encodings that are not UTF8: the extension installs in each of them, and a key lives there as anywhere.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use PostgreSQL::Test::Utils;
use Test::More;

# Owner and name of the key in UTF-8, which is what the client speaks, in characters that the encoding has. SQL_ASCII converts
# nothing.
my %owner_in = (
	EUC_JP => "\xe6\x9d\xb1\xe4\xba\xac",
	EUC_KR => "\xec\x84\x9c\xec\x9a\xb8",
	EUC_CN => "\xe5\x8c\x97\xe4\xba\xac",
	LATIN1 => "caf\xc3\xa9",
	WIN1251 => "\xd0\x9c\xd0\xbe\xd1\x81\xd0\xba\xd0\xb2\xd0\xb0",
	KOI8R => "\xd0\x9c\xd0\xbe\xd1\x81\xd0\xba\xd0\xb2\xd0\xb0",
	SQL_ASCII => 'acme',
);

my $node = new_cluster('encodings', extension => 0, conf => "fsync = off\n");
local $ENV{PGCLIENTENCODING} = 'UTF8';

for my $encoding (sort keys %owner_in)
{
	my $owner = $owner_in{$encoding};
	my $name = lc $encoding;
	value($node, "CREATE DATABASE $name ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
	my %in = (database => $name);

	is(sqlstate($node, 'CREATE EXTENSION apikey', %in), '00000', "$encoding: CREATE EXTENSION");
	is(value($node, "SELECT count(*) FROM pg_description WHERE objoid = 'apikey.check_token(text, text, inet, integer)'::regprocedure", %in),
		'1', "$encoding: with its comments");
	for my $format (qw(jwt opaque))
	{
		my %key = issue($node, owner => $owner, role => 'basic', format => $format, ttl => '1 hour', %in);
		my %verdict = verdict($node, $key{token}, permission => 'chat:read', %in);
		is($verdict{code}, 'VALID', "$encoding: an issued key ($format) is valid");
		is(value($node, "SELECT owner FROM apikey.validate(" . literal($key{token}) . ")", %in), $owner, "$encoding: and has its owner");
		my %next = refresh($node, $key{token}, %in);
		is(code($node, $next{token}, %in), 'VALID', "$encoding: refreshed ($format)");
		is(value($node, 'SELECT count(*) FROM apikey.audit_event WHERE owner = ' . literal($owner) . " AND key_id = '$key{key_id}' AND event = 'refreshed'", %in),
			'1', "$encoding: which the audit trail has");
		is(value($node, 'SELECT apikey.revoke_owner(' . literal($owner) . ')', %in), '1', "$encoding: revoked by owner ($format)");
		is(code($node, $next{token}, %in), 'REVOKED', "$encoding: and refused");
	}
	isnt(value($node, 'SELECT count(*) FROM apikey.metrics JOIN apikey.metric_types USING (name)', %in), '0', "$encoding: metrics can be read");
	is(value($node, "SELECT count(*) FROM apikey.status() WHERE state = 'failed'", %in), '0', "$encoding: status() has no complaint");
}

$node->stop;
done_testing();
