-- Calls each expression over the rows of source until it was called often enough; in every round in another order.
CREATE FUNCTION bench.rounds(expressions text[], source text, calls bigint, rounds integer)
    RETURNS TABLE (round integer, expression integer, ns double precision)
    LANGUAGE plpgsql
AS $$
DECLARE
    started timestamptz;
    done bigint;
    counted bigint;
BEGIN
    FOR turn IN 1..rounds LOOP
        round := turn;
        FOR expression IN SELECT i FROM generate_subscripts(expressions, 1) i ORDER BY random() LOOP
            done := 0;
            started := clock_timestamp();
            WHILE done < calls LOOP
                EXECUTE format('SELECT count(%s) FROM %s', expressions[expression], source) INTO counted;
                IF counted = 0 THEN
                    RAISE EXCEPTION '% gives nothing over %', expressions[expression], source;
                END IF;
                done := done + counted;
            END LOOP;
            ns := 1e9 * extract(epoch FROM clock_timestamp() - started) / done;
            RETURN NEXT;
        END LOOP;
    END LOOP;
END
$$;
