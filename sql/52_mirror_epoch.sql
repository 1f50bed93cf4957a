-- What the mirror worker works on: which states of Redis are our own.

CREATE TABLE apikey.mirror_epoch (
    counter bigint NOT NULL,
    epoch uuid NOT NULL DEFAULT gen_random_uuid(),
    timeline integer NOT NULL,
    cause text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT mirror_epoch_pkey PRIMARY KEY (counter),
    CONSTRAINT mirror_epoch_unique UNIQUE (epoch)
);
COMMENT ON TABLE apikey.mirror_epoch IS
    'Each time that Redis was filled anew. What bears another epoch there was written by somebody else';
COMMENT ON COLUMN apikey.mirror_epoch.counter IS 'With the timeline: which of two writers is the newer one';
COMMENT ON COLUMN apikey.mirror_epoch.timeline IS
    'Of the server''s WAL at the time, so that a promoted standby has a later one than its old primary; or that of '
    'whom mirror_takeover() took the mirror from, if that is later';
COMMENT ON COLUMN apikey.mirror_epoch.cause IS 'connected, epoch, server, evicted, count, requested or altered: why';

CREATE TRIGGER mirror_epoch_skip_replicated BEFORE INSERT OR UPDATE OR DELETE ON apikey.mirror_epoch
    FOR EACH ROW EXECUTE FUNCTION apikey.skip_replicated();
ALTER TABLE apikey.mirror_epoch ENABLE REPLICA TRIGGER mirror_epoch_skip_replicated;
