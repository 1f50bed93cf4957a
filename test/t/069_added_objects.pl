# What others add to the extension's tables: columns, which a dump has and CREATE EXTENSION has not; triggers of their own. And dumps of a
# part of the database.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use ApikeyTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('added_objects');
my $directory = PostgreSQL::Test::Utils::tempdir();
my %key = issue($node);

sub run_quietly
{
	my (@command) = @_;
	my $errors = '';
	my $done = IPC::Run::run(\@command, '>', \my $output, '2>', \$errors);
	return $done ? '' : ($errors || 'failed');
}

sub status { my ($component, %options) = @_; return join(' ', value($node, "SELECT state || ' ' || detail FROM apikey.status() WHERE component = '$component'", %options)) }

# Only what belongs to apikey, as the documentation has it.
value($node, 'CREATE TABLE public.other (a integer)');
is(run_quietly('pg_dump', '-n', 'apikey', '-e', 'apikey', '-f', "$directory/part.sql", '-d', $node->connstr('postgres')), '', 'pg_dump of the extension');
value($node, 'CREATE DATABASE part TEMPLATE template0');
is(run_quietly('psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$directory/part.sql", '-d', $node->connstr('part')), '', 'restored');
is(code($node, $key{token}, database => 'part'), 'VALID', 'the key is there');
is(value($node, 'SELECT count(*) FROM apikey.audit_event', database => 'part'), value($node, 'SELECT count(*) FROM apikey.audit_event'), 'and the audit trail');
is(value($node, "SELECT to_regclass('public.other') IS NULL", database => 'part'), 't', 'and nothing else');

# A trigger of one's own, in whatever mode, is no trigger of the extension's that is disabled.
value($node, <<~'SQL');
	CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
	CREATE TRIGGER noted AFTER INSERT ON apikey.key FOR EACH ROW EXECUTE FUNCTION public.note();
	SQL
is(status('triggers'), 'ok {}', 'a trigger of somebody else');
value($node, 'ALTER TABLE apikey.key DISABLE TRIGGER noted');
is(status('triggers'), 'ok {}', 'disabled');
value($node, 'ALTER TABLE apikey.key DISABLE TRIGGER key_after_update');
is(status('triggers'), 'disabled {"apikey.key.key_after_update": "D"}', 'one of the extension');
value($node, 'ALTER TABLE apikey.key ENABLE ALWAYS TRIGGER key_after_update; DROP TRIGGER noted ON apikey.key');
is(status('triggers'), 'ok {}', 'enabled again');

# A column.
is(status('columns'), 'ok {}', 'no columns but the extension\'s');
value($node, 'ALTER TABLE apikey.key ADD COLUMN team text; ALTER TABLE apikey.role ADD COLUMN cost numeric; ALTER TABLE apikey.audit_event ADD COLUMN note text');
is(status('columns'), 'added {"apikey.key": ["team"], "apikey.role": ["cost"], "apikey.audit_event": ["note"]}', 'columns that others have added');
value($node, "UPDATE apikey.key SET team = 'red'");
is(run_quietly('pg_dump', '-Fc', '-f', "$directory/all", '-d', $node->connstr('postgres')), '', 'dumped');
value($node, 'CREATE DATABASE copy TEMPLATE template0');
my @restore = ('pg_restore', '--exit-on-error', '-d', $node->connstr('copy'));
like(run_quietly(@restore, "$directory/all"), qr/column "\w+" of relation "\w+" does not exist/, 'cannot be restored as it is');
value($node, 'DROP DATABASE copy');
value($node, 'CREATE DATABASE copy TEMPLATE template0');
is(run_quietly(@restore, '--section=pre-data', "$directory/all"), '', 'in sections: the extension');
value($node, 'ALTER TABLE apikey.key ADD COLUMN team text; ALTER TABLE apikey.role ADD COLUMN cost numeric; ALTER TABLE apikey.audit_event ADD COLUMN note text', database => 'copy');
is(run_quietly(@restore, '--section=data', '--section=post-data', "$directory/all"), '', 'and, with the columns, the data');
is(value($node, 'SELECT team FROM apikey.key', database => 'copy'), 'red', 'with what is in the columns');
is(code($node, $key{token}, database => 'copy'), 'VALID', 'and the key is good');
value($node, 'ALTER TABLE apikey.key DROP COLUMN team; ALTER TABLE apikey.role DROP COLUMN cost; ALTER TABLE apikey.audit_event DROP COLUMN note');
is(status('columns'), 'ok {}', 'dropped: in order');

done_testing();
