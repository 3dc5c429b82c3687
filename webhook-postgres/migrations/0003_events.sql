-- The third version: places in the stream of events that every process knows, so that a reader can go on at another one.
--
-- All processes get the same notifications in the same order. Each line of an event has a number, by which a process
-- finds the place among those that it got. Numbers are no order: a transaction takes them before it commits.
--
-- The stream has an identity, its life. A new life begins when a process begins to read while no other one does, since
-- no events were written before. It is told by a mark, a notification with a number of its own.

-- The life of the stream that a process reads. It is the same for all that read.
ALTER TABLE @S@.processes ADD COLUMN life bigint;

-- Whether changes are to be told. The lock makes sure that who has begun to read misses none of this transaction. A host's
-- transaction may take long, and nobody is to wait for its end to begin reading: so it tells in any case.
CREATE OR REPLACE FUNCTION @S@.has_readers() RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
    IF coalesce(current_setting('@S@.slot', true), '') <> '' THEN
        RETURN true;
    END IF;
    PERFORM pg_advisory_xact_lock_shared(@SALT@);
    RETURN EXISTS (SELECT FROM @S@.processes WHERE reads_until > now());
END $$;

-- Takes numbers for lines of this transaction, of which there may be 2^20, and returns the first of them.
CREATE FUNCTION @S@.number_lines(lines integer) RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
    told bigint := coalesce(nullif(current_setting('@S@.told', true), '')::bigint, 0);
BEGIN
    PERFORM set_config('@S@.told', (told + lines)::text, true);
    RETURN (pg_current_xact_id()::text::bigint << 20) + told;
END $$;

-- Sends lines to all processes, several in one notification, which holds less than 8000 bytes and begins with the number
-- of its first line.
CREATE OR REPLACE FUNCTION @S@.tell(lines text[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    line text;
    number bigint;
    payload text;
BEGIN
    IF cardinality(lines) > 0 THEN
        number := @S@.number_lines(cardinality(lines));
    END IF;
    FOREACH line IN ARRAY coalesce(lines, '{}') LOOP
        IF octet_length(payload) + octet_length(line) > 7900 THEN
            PERFORM pg_notify(@C@, payload);
            payload := NULL;
        END IF;
        payload := coalesce(payload, 'e' || number) || E'\n' || line;
        number := number + 1;
    END LOOP;
    IF payload IS NOT NULL THEN
        PERFORM pg_notify(@C@, payload);
    END IF;
END $$;

-- A process reads events from now on for some seconds. With `is_new`, or when its time has nearly run out, this waits for
-- what is under way, so that the reader misses nothing that is committed later. With a token, a mark and the token are
-- sent, which tell the reader that all before is behind.
CREATE OR REPLACE FUNCTION @S@.read_events_1(process uuid, name text, seconds double precision, is_new boolean, token text)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    of_stream bigint;
    begins boolean := false;
BEGIN
    IF is_new OR NOT EXISTS (SELECT FROM @S@.processes p WHERE p.id = process AND p.life IS NOT NULL
        AND p.reads_until > clock_timestamp() + seconds / 2 * interval '1 s')
    THEN
        -- Whoever found no reader has committed by then, and the clock has moved on since.
        PERFORM pg_advisory_xact_lock(@SALT@);
        begins := NOT EXISTS (SELECT FROM @S@.processes p
            WHERE p.life IS NOT NULL AND p.reads_until > clock_timestamp());
    END IF;
    IF begins THEN
        of_stream := uuid_hash_extended(gen_random_uuid(), 0);
        UPDATE @S@.processes p SET life = of_stream WHERE p.reads_until > clock_timestamp();
        DELETE FROM @S@.processes p WHERE p.seen_at < now() - interval '1 day';
    ELSE
        SELECT p.life INTO of_stream FROM @S@.processes p WHERE p.life IS NOT NULL
        ORDER BY p.reads_until DESC NULLS LAST LIMIT 1;
    END IF;
    IF begins OR token <> '' THEN
        PERFORM pg_notify(@C@, 'm' || CASE WHEN begins THEN 'b' ELSE 'c' END || of_stream || ' ' || @S@.number_lines(1));
    END IF;
    IF token <> '' THEN
        PERFORM pg_notify(@C@, 'y' || token);
    END IF;
    INSERT INTO @S@.processes AS p (id, name, seen_at, reads_until, life)
    VALUES (process, read_events_1.name, now(), now() + seconds * interval '1 s', of_stream)
    ON CONFLICT (id) DO UPDATE SET seen_at = now(), reads_until = excluded.reads_until, life = excluded.life;
END $$;
