-- The functions for the mirror in Redis.

CREATE FUNCTION apikey.redis_bucket(key_id uuid) RETURNS integer
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 30
    AS 'MODULE_PATHNAME', 'apikey_redis_bucket';
COMMENT ON FUNCTION apikey.redis_bucket(uuid) IS
    'In which of the 16 buckets of the mirror a key is: the first hexadecimal digit of the SHA-256 of its id as text';

CREATE FUNCTION apikey.wait_mirrored(receipt xid8, timeout interval DEFAULT '5s') RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 10000
    AS 'MODULE_PATHNAME', 'apikey_wait_mirrored';
COMMENT ON FUNCTION apikey.wait_mirrored(xid8, interval) IS
    'Is the revocation with this receipt in Redis? Waits for it that long. To be called after its COMMIT; in its own '
    'transaction it is false at once';

CREATE FUNCTION apikey.mirror_resync() RETURNS void
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 100
    AS 'MODULE_PATHNAME', 'apikey_mirror_resync';
COMMENT ON FUNCTION apikey.mirror_resync() IS
    'Asks the mirror worker to send everything anew and to compare; readers of Redis get "unknown" until it has';

CREATE FUNCTION apikey.mirror_takeover() RETURNS void
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 100
    AS 'MODULE_PATHNAME', 'apikey_mirror_takeover';
COMMENT ON FUNCTION apikey.mirror_takeover() IS
    'After a restore, when status() says that the mirror is fenced or foreign: this database takes it over all the '
    'same, and whoever wrote it before is fenced. See mirror_diff() afterwards';
