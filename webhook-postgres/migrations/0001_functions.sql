-- Functions of the first version. Each is one round trip that does a whole group, and sees what was committed after it
-- got its locks, since every statement in it has a snapshot of its own.
--
-- Those without a number are called by the others only, and have their settings.
-- The number in a name is its version: a server keeps calling the functions it knows while a newer one runs beside it.
--
-- Locks, always in this order, so that no two transactions wait for each other:
-- 1. locks of webhooks (advisory, sorted): shared to enqueue, exclusive to apply a bound or a limit or to change the
--    webhook; then the lock of all webhooks; then the shared lock of events;
-- 2. rows of `live`;
-- 3. rows of `counts`, sorted.
--
-- Plans do not depend on statistics, which are wrong in a table that fills and empties within a second: what is looked
-- up is found through an index, by nested loops. They are made once for each connection (`force_generic_plan`), since
-- making them anew takes longer than executing them. Where the oldest or newest rows of some kind are wanted, the order
-- names one column more than the id, another one for each kind: so only the index of that kind has the order, and not
-- the primary key, which has rows of every kind.

CREATE FUNCTION @S@.lane_key(webhook uuid) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT uuid_hash_extended(webhook, @SALT@) $$;

-- Locks webhooks, in the order of their keys.
CREATE FUNCTION @S@.lock_lanes(webhooks uuid[], is_exclusive boolean) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    lane bigint;
BEGIN
    FOR lane IN SELECT DISTINCT @S@.lane_key(w) FROM unnest(webhooks) w ORDER BY 1 LOOP
        IF is_exclusive THEN
            PERFORM pg_advisory_xact_lock(lane);
        ELSE
            PERFORM pg_advisory_xact_lock_shared(lane);
        END IF;
    END LOOP;
END $$;

-- Locks those of some webhooks that have a bound: what becomes of runs of the others concerns no other run.
CREATE FUNCTION @S@.lock_bounded(webhooks uuid[]) RETURNS void
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
    PERFORM @S@.lock_lanes(ARRAY(SELECT w.id FROM @S@.webhooks w
        WHERE w.id = ANY (lock_bounded.webhooks) AND w.bound IS NOT NULL), true);
END $$;

-- Whether a process reads events. The lock makes sure that who has begun to read misses none of this transaction.
CREATE FUNCTION @S@.has_readers() RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
    -- A host's transaction may take long, and nobody is to wait for its end to begin reading.
    IF coalesce(current_setting('@S@.slot', true), '') = '' THEN
        PERFORM pg_advisory_xact_lock_shared(@SALT@);
    END IF;
    RETURN EXISTS (SELECT FROM @S@.processes WHERE reads_until > now());
END $$;

-- Sends lines to all processes, several in one notification, which holds less than 8000 bytes.
CREATE FUNCTION @S@.tell(lines text[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    line text;
    payload text := 'e';
BEGIN
    FOREACH line IN ARRAY coalesce(lines, '{}') LOOP
        IF octet_length(payload) + octet_length(line) > 7900 THEN
            PERFORM pg_notify(@C@, payload);
            payload := 'e';
        END IF;
        payload := payload || E'\n' || line;
    END LOOP;
    IF payload <> 'e' THEN
        PERFORM pg_notify(@C@, payload);
    END IF;
END $$;

-- Tells all processes that claimed runs are to stop, for a reason as in `live`. A notification holds less than 8000
-- bytes.
CREATE FUNCTION @S@.tell_cancelled(reason integer, runs uuid[]) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    FOR i IN 1 .. cardinality(runs) BY 200 LOOP
        PERFORM pg_notify(@C@, 'c' || reason || array_to_string(runs[i : i + 199], ','));
    END LOOP;
END $$;

-- A change of a run's state as a line. Too long an error is left out: who reads it looks the run up.
CREATE FUNCTION @S@.line(run @S@.live) RETURNS text
LANGUAGE sql STABLE
AS $$ SELECT concat_ws(E'\t', 's', run.id, run.state, run.attempt, run.interruptions, run.fence,
    coalesce(run.cancel::text, ''), coalesce(run.started_ms::text, ''), coalesce(run.due_ms::text, ''),
    CASE WHEN octet_length(run.error) < 7000 THEN convert_from(run.error, 'UTF8') ELSE '' END,
    CASE WHEN run.state = 3 THEN '' ELSE coalesce(run.claimer, '') END) $$;

-- Adds to what is queued. Webhooks may repeat.
CREATE FUNCTION @S@.count_queued(webhooks uuid[], queued_by bigint[], bytes_by bigint[], pending_by bigint)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    -- A host's transaction has a row of its own, so that nobody waits for its end.
    mine smallint := coalesce(nullif(current_setting('@S@.slot', true), '')::smallint, pg_backend_pid() % 8);
BEGIN
    INSERT INTO @S@.counts AS c (webhook, slot, queued, bytes, pending)
    SELECT d.webhook, mine, d.queued, d.bytes, 0
    FROM (SELECT u.webhook, sum(u.queued) AS queued, sum(u.bytes) AS bytes
          FROM unnest(webhooks, queued_by, bytes_by) AS u (webhook, queued, bytes) GROUP BY u.webhook) d
    ORDER BY d.webhook
    ON CONFLICT (webhook, slot) DO UPDATE SET queued = c.queued + excluded.queued, bytes = c.bytes + excluded.bytes;
    INSERT INTO @S@.counts AS c (webhook, slot, queued, bytes, pending)
    SELECT @ALL@, mine, coalesce(sum(u.queued), 0), coalesce(sum(u.bytes), 0), pending_by
    FROM unnest(queued_by, bytes_by) AS u (queued, bytes)
    ON CONFLICT (webhook, slot) DO UPDATE
    SET queued = c.queued + excluded.queued, bytes = c.bytes + excluded.bytes, pending = c.pending + excluded.pending;
END $$;

-- Makes as many runs of a webhook ready as its bound has room for, oldest first. Its lock is held.
CREATE FUNCTION @S@.release(of_webhook uuid) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    room bigint;
    most integer;
BEGIN
    SELECT bound INTO most FROM @S@.webhooks WHERE id = of_webhook;
    IF most IS NULL THEN
        UPDATE @S@.live SET state = 0 WHERE state = 2 AND webhook = of_webhook;
        RETURN;
    END IF;
    SELECT most - count(*) INTO room FROM @S@.live
    WHERE webhook = of_webhook AND state = ANY ('{0,3,4}'::smallint[]);
    IF room > 0 THEN
        UPDATE @S@.live l SET state = 0
        FROM (SELECT id FROM @S@.live WHERE state = 2 AND webhook = of_webhook ORDER BY id, bytes LIMIT room FOR UPDATE) n
        WHERE l.id = n.id;
    END IF;
END $$;

-- Moves a live run to the history. Its webhook's lock is held if it has a bound.
CREATE FUNCTION @S@.bury(run @S@.live, as_state integer, at_ms bigint, with_outcome bytea) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    DELETE FROM @S@.live WHERE id = run.id;
    INSERT INTO @S@.history (id, webhook, fence, started_ms, due_ms, finished_ms, attempt, interruptions, state, cancel,
        workflow, claimer, fixed, parameters, progress, outcome)
    VALUES (run.id, run.webhook, run.fence, run.started_ms, run.due_ms, at_ms, run.attempt, run.interruptions, as_state,
        run.cancel, run.workflow, run.claimer, run.fixed, run.parameters, run.progress, with_outcome);
END $$;

-- Records runs that meet no bound and no limit. The answer is one letter for each, or nothing if all are recorded:
-- c created, r replayed, m another request under the key, n no such webhook, u another token, d disabled, and
-- a for those that `enqueue_each` has to decide.
-- `formers` are other hashes of the same request, one after another; null where the key alone names the request.
CREATE FUNCTION @S@.enqueue_1(
    lane_webhook uuid[], lane_workflow text[], lane_digest bytea[], lane_enabled boolean[], lane_queued bigint[],
    lane_bytes bigint[], lane_limit bigint[], lane_limit_bytes bigint[], limit_all bigint, limit_all_bytes bigint,
    ids uuid[], lanes integer[], sizes integer[], fixed bytea[], parameters bytea[],
    key_rows integer[], keys bytea[], prints bytea[], formers bytea[], keep_ms bigint[], until_ms bigint[],
    OUT verdicts text, OUT replays uuid[])
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    -- So much may other groups add at the same time: sixteen of the greatest.
    spare CONSTANT bigint := 16 * 256;
    spare_bytes CONSTANT bigint := 2 * 1024 * 1024;
    verdict "char"[];
    refused integer[] := '{}';
    mine uuid[];
    expected bigint;
    done bigint;
    all_queued bigint;
    all_bytes bigint;
    all_near boolean;
    reads boolean;
BEGIN
    PERFORM @S@.lock_lanes(lane_webhook, false);
    reads := @S@.has_readers();
    SELECT coalesce(sum(c.queued), 0), coalesce(sum(c.bytes), 0) INTO all_queued, all_bytes
    FROM @S@.counts c WHERE c.webhook = @ALL@;
    all_near := all_queued + cardinality(ids) + spare > limit_all
        OR all_bytes + (SELECT sum(b) FROM unnest(lane_bytes) b) + spare_bytes > limit_all_bytes;
    SELECT array_agg(CASE
            WHEN w.id IS NULL THEN 'n'
            WHEN l.digest <> w.token_digest THEN 'u'
            WHEN l.enabled AND NOT w.enabled THEN 'd'
            WHEN w.bound IS NOT NULL OR all_near OR s.queued + l.queued + spare > l.most
                OR s.bytes + l.bytes + spare_bytes > l.most_bytes THEN 'a'
            ELSE 'c' END::"char" ORDER BY l.n)
    INTO verdict
    FROM unnest(lane_webhook, lane_digest, lane_enabled, lane_queued, lane_bytes, lane_limit, lane_limit_bytes)
        WITH ORDINALITY AS l (webhook, digest, enabled, queued, bytes, most, most_bytes, n)
    LEFT JOIN @S@.webhooks w ON w.id = l.webhook
    CROSS JOIN LATERAL (SELECT coalesce(sum(c.queued), 0) AS queued, coalesce(sum(c.bytes), 0) AS bytes
        FROM @S@.counts c WHERE c.webhook = l.webhook) s;

    IF cardinality(key_rows) > 0 THEN
        replays := array_fill(NULL::uuid, ARRAY[cardinality(ids)]);
        WITH taken AS (
            INSERT INTO @S@.keys AS k (webhook, key, fingerprint, run, expires_at, until_ms)
            SELECT lane_webhook[lanes[r.n]], r.key, r.print, ids[r.n], now() + r.keep * interval '1 ms', r.until_ms
            FROM unnest(key_rows, enqueue_1.keys, prints, keep_ms, enqueue_1.until_ms)
                AS r (n, key, print, keep, until_ms)
            WHERE verdict[lanes[r.n]] = 'c'
            ORDER BY 1, 2
            ON CONFLICT (webhook, key) DO UPDATE SET fingerprint = excluded.fingerprint, run = excluded.run,
                expires_at = excluded.expires_at, until_ms = excluded.until_ms
            WHERE k.expires_at <= now()
            RETURNING run)
        SELECT coalesce(array_agg(run), '{}') INTO mine FROM taken;
        SELECT coalesce(array_agg(n), '{}') INTO refused FROM unnest(key_rows) n
        WHERE verdict[lanes[n]] = 'c' AND ids[n] <> ALL (mine);
    END IF;

    SELECT count(*) INTO expected FROM unnest(lanes) WITH ORDINALITY AS u (lane, n)
    WHERE verdict[u.lane] = 'c' AND u.n <> ALL (refused);
    IF expected > 0 THEN
        INSERT INTO @S@.live (id, webhook, workflow, bytes, state, fixed, parameters)
        SELECT u.id, lane_webhook[u.lane], lane_workflow[u.lane], u.size, 0, u.fixed, u.parameters
        FROM unnest(ids, lanes, sizes, enqueue_1.fixed, enqueue_1.parameters)
            WITH ORDINALITY AS u (id, lane, size, fixed, parameters, n)
        WHERE verdict[u.lane] = 'c' AND u.n <> ALL (refused)
            AND NOT EXISTS (SELECT FROM @S@.history h WHERE h.id = u.id);
        GET DIAGNOSTICS done = ROW_COUNT;
        IF done <> expected THEN
            RAISE EXCEPTION 'a run id is taken' USING ERRCODE = 'WH001';
        END IF;
        PERFORM pg_notify(@C@, 'r');
        IF reads THEN
            PERFORM @S@.tell(ARRAY(SELECT @S@.line(l) FROM unnest(ids) WITH ORDINALITY AS u (id, n)
                JOIN @S@.live l ON l.id = u.id WHERE verdict[lanes[u.n]] = 'c' AND u.n <> ALL (refused) ORDER BY u.n));
        END IF;
        PERFORM @S@.count_queued(array_agg(lane_webhook[u.lane]), array_agg(1::bigint), array_agg(u.size::bigint), 0)
        FROM unnest(lanes, sizes) WITH ORDINALITY AS u (lane, size, n)
        WHERE verdict[u.lane] = 'c' AND u.n <> ALL (refused);
    END IF;
    IF expected = cardinality(ids) THEN
        RETURN;
    END IF;
    SELECT string_agg(CASE
            WHEN u.n <> ALL (refused) THEN verdict[u.lane]::text
            WHEN k.run IS NULL THEN 'a'
            WHEN r.former IS NULL OR k.fingerprint = r.print OR position(k.fingerprint IN r.former) % 32 = 1 THEN 'r'
            ELSE 'm' END, '' ORDER BY u.n),
        array_agg(k.run ORDER BY u.n)
    INTO verdicts, replays
    FROM unnest(lanes) WITH ORDINALITY AS u (lane, n)
    LEFT JOIN unnest(key_rows, enqueue_1.keys, prints, formers) AS r (n, key, print, former) ON r.n = u.n
    LEFT JOIN @S@.keys k ON k.webhook = lane_webhook[u.lane] AND k.key = r.key;
END $$;

-- Records runs one after another under the locks of their webhooks, so that every bound, limit and overlap rule is
-- exact. Besides the letters of `enqueue_1`: f queue full, s skipped, x its id is taken.
-- Overlap rules: 0 queue, 1 skip, 2 replace, 3 coalesce.
CREATE FUNCTION @S@.enqueue_each_1(
    lanes uuid[], workflows text[], digests bytea[], must_be_enabled boolean[], rules integer[],
    limits bigint[], limits_bytes bigint[], limits_all bigint[], limits_all_bytes bigint[],
    ids uuid[], sizes integer[], fixed bytea[], parameters bytea[], queued_ms bigint[], delays_ms bigint[],
    keys bytea[], prints bytea[], formers bytea[], keep_ms bigint[], until_ms bigint[], superseded bytea,
    OUT verdicts text, OUT replays uuid[], OUT stopped jsonb)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    w record;
    k record;
    one @S@.live;
    lane_names uuid[];
    lane_queued bigint[] := '{}';
    lane_bytes bigint[] := '{}';
    was_queued bigint[];
    was_bytes bigint[];
    all_queued bigint;
    all_bytes bigint;
    lane integer;
    claimed bigint;
    staying uuid[];
    waiting uuid[];
    ready bigint;
    excess bigint;
    gone uuid[];
    gone_bytes bigint;
    stop uuid[];
    verdict text;
    as_state smallint;
    reads boolean;
    lines text[] := '{}';
    wakes boolean := false;
BEGIN
    verdicts := '';
    replays := array_fill(NULL::uuid, ARRAY[cardinality(ids)]);
    stopped := '{}';
    lane_names := ARRAY(SELECT DISTINCT n FROM unnest(lanes) n ORDER BY 1);
    PERFORM @S@.lock_lanes(lane_names, true);
    SELECT coalesce(sum(c.queued), 0), coalesce(sum(c.bytes), 0) INTO all_queued, all_bytes
    FROM @S@.counts c WHERE c.webhook = @ALL@;
    IF all_queued + 32 * 256 > (SELECT min(l) FROM unnest(limits_all) l)
        OR all_bytes + (SELECT sum(s) FROM unnest(sizes) s) + 4 * 1024 * 1024 > (SELECT min(l) FROM unnest(limits_all_bytes) l)
    THEN
        PERFORM pg_advisory_xact_lock(@SALT@ + 1);
        SELECT coalesce(sum(c.queued), 0), coalesce(sum(c.bytes), 0) INTO all_queued, all_bytes
        FROM @S@.counts c WHERE c.webhook = @ALL@;
    END IF;
    reads := @S@.has_readers();
    SELECT array_agg(s.queued ORDER BY n.n), array_agg(s.bytes ORDER BY n.n) INTO lane_queued, lane_bytes
    FROM unnest(lane_names) WITH ORDINALITY AS n (webhook, n)
    CROSS JOIN LATERAL (SELECT coalesce(sum(c.queued), 0)::bigint AS queued, coalesce(sum(c.bytes), 0)::bigint AS bytes
        FROM @S@.counts c WHERE c.webhook = n.webhook) s;
    was_queued := lane_queued;
    was_bytes := lane_bytes;
    FOR i IN 1 .. cardinality(ids) LOOP
        lane := array_position(lane_names, lanes[i]);
        verdict := NULL;
        SELECT id, bound, enabled, token_digest INTO w FROM @S@.webhooks WHERE id = lanes[i];
        IF w.id IS NULL THEN
            verdict := 'n';
        ELSIF digests[i] <> w.token_digest THEN
            verdict := 'u';
        ELSIF must_be_enabled[i] AND NOT w.enabled THEN
            verdict := 'd';
        ELSIF keys[i] IS NOT NULL THEN
            SELECT c.run, c.fingerprint INTO k FROM @S@.keys c
            WHERE c.webhook = lanes[i] AND c.key = keys[i] AND c.expires_at > now();
            IF k.run IS NOT NULL THEN
                verdict := CASE WHEN formers[i] IS NULL OR k.fingerprint = prints[i]
                    OR position(k.fingerprint IN formers[i]) % 32 = 1 THEN 'r' ELSE 'm' END;
                replays[i] := k.run;
            END IF;
        END IF;
        IF verdict IS NULL AND (EXISTS (SELECT FROM @S@.live WHERE id = ids[i])
            OR EXISTS (SELECT FROM @S@.history WHERE id = ids[i])) THEN
            verdict := 'x';
        END IF;
        IF verdict IS NOT NULL THEN
            verdicts := verdicts || verdict;
            CONTINUE;
        END IF;
        gone := '{}';
        stop := '{}';
        gone_bytes := 0;
        IF w.bound IS NOT NULL AND rules[i] > 0 THEN
            -- Claims lock rows without the webhook's lock: after this, none is under way.
            PERFORM FROM @S@.live WHERE webhook = lanes[i] AND state BETWEEN 0 AND 4 ORDER BY id FOR UPDATE;
            SELECT count(*) FILTER (WHERE state >= 3),
                coalesce(array_agg(id ORDER BY state, id) FILTER (WHERE state >= 3 AND cancel IS NULL), '{}'),
                coalesce(array_agg(id ORDER BY id) FILTER (WHERE state < 3), '{}')
            INTO claimed, staying, waiting
            FROM @S@.live WHERE webhook = lanes[i] AND state BETWEEN 0 AND 4;
            IF rules[i] = 1 AND claimed + cardinality(waiting) >= w.bound THEN
                verdict := 's';
            ELSIF rules[i] = 2 THEN
                excess := greatest(cardinality(staying) + cardinality(waiting) + 1 - w.bound, 0);
                gone := waiting[1 : excess];
                stop := staying[1 : excess - cardinality(gone)];
            ELSIF rules[i] = 3 THEN
                excess := greatest(w.bound - claimed, 0);
                IF cardinality(waiting) >= excess THEN
                    gone := waiting[excess + 1 :];
                END IF;
            END IF;
            SELECT coalesce(sum(bytes), 0) INTO gone_bytes FROM @S@.live WHERE id = ANY (gone);
        END IF;
        IF verdict IS NULL AND (lane_queued[lane] + 1 - cardinality(gone) > limits[i]
            OR all_queued + 1 - cardinality(gone) > limits_all[i]
            OR lane_bytes[lane] + sizes[i] - gone_bytes > limits_bytes[i]
            OR all_bytes + sizes[i] - gone_bytes > limits_all_bytes[i]) THEN
            verdicts := verdicts || 'f';
            CONTINUE;
        END IF;
        IF keys[i] IS NOT NULL THEN
            INSERT INTO @S@.keys AS c (webhook, key, fingerprint, run, expires_at, until_ms)
            VALUES (lanes[i], keys[i], prints[i], ids[i], now() + keep_ms[i] * interval '1 ms', until_ms[i])
            ON CONFLICT (webhook, key) DO UPDATE SET fingerprint = excluded.fingerprint, run = excluded.run,
                expires_at = excluded.expires_at, until_ms = excluded.until_ms;
        END IF;
        IF verdict = 's' THEN
            INSERT INTO @S@.history (id, webhook, fence, finished_ms, attempt, interruptions, state, workflow, fixed,
                parameters)
            VALUES (ids[i], lanes[i], 0, queued_ms[i], 0, 0, 9, workflows[i], fixed[i], parameters[i]);
            lines := lines || ('h' || E'\t' || ids[i]);
            verdicts := verdicts || 's';
            CONTINUE;
        END IF;
        FOR one IN SELECT l.* FROM @S@.live l WHERE l.id = ANY (gone) ORDER BY l.id LOOP
            PERFORM @S@.bury(one, 8, queued_ms[i], superseded);
            lines := lines || ('h' || E'\t' || one.id);
        END LOOP;
        IF cardinality(stop) > 0 THEN
            UPDATE @S@.live SET cancel = 2 WHERE id = ANY (stop) AND cancel IS NULL;
            stopped := stopped || jsonb_build_object(i::text, to_jsonb(stop));
            PERFORM @S@.tell_cancelled(2, stop);
        END IF;
        as_state := 0;
        IF delays_ms[i] > 0 THEN
            as_state := 1;
        ELSIF w.bound IS NOT NULL THEN
            SELECT count(*) INTO ready FROM @S@.live
            WHERE webhook = lanes[i] AND state = ANY ('{0,3,4}'::smallint[]);
            IF ready >= w.bound OR EXISTS (SELECT FROM @S@.live WHERE webhook = lanes[i] AND state = 2) THEN
                as_state := 2;
            END IF;
        END IF;
        INSERT INTO @S@.live (id, webhook, workflow, bytes, state, due_at, fixed, parameters)
        VALUES (ids[i], lanes[i], workflows[i], sizes[i], as_state,
            CASE WHEN as_state = 1 THEN now() + delays_ms[i] * interval '1 ms' END, fixed[i], parameters[i])
        RETURNING * INTO one;
        IF as_state = 2 THEN
            PERFORM @S@.release(lanes[i]);
        END IF;
        wakes := true;
        IF reads THEN
            lines := lines || @S@.line(one);
        END IF;
        lane_queued[lane] := lane_queued[lane] + 1 - cardinality(gone);
        lane_bytes[lane] := lane_bytes[lane] + sizes[i] - gone_bytes;
        all_queued := all_queued + 1 - cardinality(gone);
        all_bytes := all_bytes + sizes[i] - gone_bytes;
        verdicts := verdicts || 'c';
    END LOOP;
    IF wakes THEN
        PERFORM pg_notify(@C@, 'r');
    END IF;
    IF reads THEN
        PERFORM @S@.tell(lines);
    END IF;
    PERFORM @S@.count_queued(
        array_agg(n.webhook), array_agg(lane_queued[n.n] - was_queued[n.n]), array_agg(lane_bytes[n.n] - was_bytes[n.n]),
        0)
    FROM unnest(lane_names) WITH ORDINALITY AS n (webhook, n)
    WHERE lane_queued[n.n] <> was_queued[n.n] OR lane_bytes[n.n] <> was_bytes[n.n]
    HAVING count(*) > 0;
END $$;

-- Whether a workflow is among those that are asked for, by name or by kind. Null stands for all.
CREATE FUNCTION @S@.is_wanted(workflow text, of_workflows text[], of_kinds text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT (of_workflows IS NULL OR workflow = ANY (of_workflows))
    AND (of_kinds IS NULL OR split_part(workflow, '/', 1) = ANY (of_kinds)) $$;

-- Whether a webhook may have ready runs of these workflows: by its oldest one, or by the workflow that it has now.
CREATE FUNCTION @S@.has_wanted(of_webhook uuid, of_workflows text[], of_kinds text[]) RETURNS boolean
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    IF of_workflows IS NULL AND of_kinds IS NULL THEN
        RETURN true;
    END IF;
    RETURN @S@.is_wanted((SELECT l.workflow FROM @S@.live l WHERE l.state = 0 AND l.webhook = of_webhook
            ORDER BY l.id, l.bytes LIMIT 1), of_workflows, of_kinds)
        OR @S@.is_wanted((SELECT w.workflow FROM @S@.webhooks w WHERE w.id = of_webhook), of_workflows, of_kinds);
END $$;

-- Claims ready runs. Each of up to sixteen webhooks that have some, in turn from the one after `turn`, gets an equal
-- share, oldest first; what others leave goes to those that have more. `due` says that `revive_1` has work.
CREATE FUNCTION @S@.claim_1(now_count integer, ahead_count integer, lease_ms bigint, interruption_bound integer,
    now_ms bigint, turn uuid, looks_for_expired boolean, by_claimer text, of_workflows text[], of_kinds text[])
RETURNS TABLE (id uuid, webhook uuid, revision bigint, is_ahead boolean, fence bigint, attempt integer,
    interruptions integer, cancel smallint, started_ms bigint, due_ms bigint, workflow text, fixed bytea,
    parameters bytea, error bytea, due boolean, next_turn uuid)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    total integer := now_count + ahead_count;
    lanes uuid[];
    lane uuid;
    share integer;
    newest uuid[];
    batch uuid[];
    picked uuid[] := '{}';
    has_due boolean;
    reads boolean;
    had bigint;
BEGIN
    -- What is claimed need not survive the machine: after a crash of it the run is ready again.
    PERFORM set_config('synchronous_commit', 'off', true);
    reads := @S@.has_readers();
    has_due := EXISTS (SELECT FROM @S@.live l WHERE l.state = 1 AND l.due_at <= now())
        OR looks_for_expired AND EXISTS (SELECT FROM @S@.live l
            WHERE l.state = ANY ('{3,4}'::smallint[]) AND l.lease_until <= now());
    lanes := ARRAY(
        WITH RECURSIVE t AS (
            (SELECT l.webhook FROM @S@.live l WHERE l.state = 0 AND l.webhook > turn ORDER BY l.webhook LIMIT 1)
            UNION ALL
            SELECT (SELECT l.webhook FROM @S@.live l WHERE l.state = 0 AND l.webhook > t.webhook
                    ORDER BY l.webhook LIMIT 1)
            FROM t WHERE t.webhook IS NOT NULL)
        SELECT t.webhook FROM t WHERE t.webhook IS NOT NULL
            AND @S@.has_wanted(t.webhook, of_workflows, of_kinds) LIMIT 16);
    IF cardinality(lanes) < 16 THEN
        lanes := lanes || ARRAY(
            WITH RECURSIVE t AS (
                (SELECT l.webhook FROM @S@.live l WHERE l.state = 0 AND l.webhook <= turn ORDER BY l.webhook LIMIT 1)
                UNION ALL
                SELECT (SELECT l.webhook FROM @S@.live l
                        WHERE l.state = 0 AND l.webhook > t.webhook AND l.webhook <= turn ORDER BY l.webhook LIMIT 1)
                FROM t WHERE t.webhook IS NOT NULL)
            SELECT t.webhook FROM t WHERE t.webhook IS NOT NULL
                AND @S@.has_wanted(t.webhook, of_workflows, of_kinds) LIMIT 16 - cardinality(lanes));
    END IF;
    newest := array_fill('00000000-0000-0000-0000-000000000000'::uuid, ARRAY[cardinality(lanes)]);
    WHILE cardinality(picked) < total AND cardinality(lanes) > 0 LOOP
        share := ceil((total - cardinality(picked))::numeric / cardinality(lanes));
        had := cardinality(picked);
        FOR i IN 1 .. cardinality(lanes) LOOP
            EXIT WHEN cardinality(picked) >= total;
            lane := lanes[i];
            SELECT array_agg(p.id) INTO batch FROM (
                SELECT l.id FROM @S@.live l
                WHERE l.state = 0 AND l.webhook = lane AND l.id > newest[i]
                    AND @S@.is_wanted(l.workflow, of_workflows, of_kinds)
                ORDER BY l.id, l.bytes LIMIT least(share, total - cardinality(picked)) FOR UPDATE SKIP LOCKED) p;
            IF batch IS NULL THEN
                newest[i] := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
            ELSE
                newest[i] := batch[cardinality(batch)];
                picked := picked || batch;
                next_turn := lane;
            END IF;
        END LOOP;
        EXIT WHEN cardinality(picked) = had;
    END LOOP;
    IF cardinality(picked) = 0 THEN
        IF has_due THEN
            due := true;
            RETURN NEXT;
        END IF;
        RETURN;
    END IF;
    IF cardinality(lanes) > 1 THEN
        picked := ARRAY(SELECT p FROM unnest(picked) p ORDER BY p);
    END IF;
    RETURN QUERY
    WITH claimed AS (
        UPDATE @S@.live l
        SET state = CASE WHEN p.n <= now_count THEN 4 ELSE 3 END,
            fence = l.fence + 1,
            counted = l.cancel IS NULL AND l.interruptions < interruption_bound,
            attempt = l.attempt + (l.cancel IS NULL AND l.interruptions < interruption_bound)::integer,
            started_ms = CASE WHEN p.n <= now_count AND l.cancel IS NULL AND l.interruptions < interruption_bound
                THEN coalesce(l.started_ms, now_ms) ELSE l.started_ms END,
            lease_until = now() + lease_ms * interval '1 ms',
            progress = NULL,
            claimer = by_claimer
        FROM unnest(picked) WITH ORDINALITY AS p (id, n)
        WHERE l.id = p.id
        RETURNING p.n, l.*)
    SELECT c.id, c.webhook, w.revision, c.state = 3, c.fence, c.attempt, c.interruptions, c.cancel, c.started_ms,
        c.due_ms, c.workflow, c.fixed, c.parameters, c.error, has_due, next_turn
    FROM claimed c LEFT JOIN @S@.webhooks w ON w.id = c.webhook ORDER BY c.n;
    IF reads THEN
        PERFORM @S@.tell(ARRAY(SELECT @S@.line(l) FROM unnest(picked) WITH ORDINALITY AS p (id, n)
            JOIN @S@.live l ON l.id = p.id WHERE p.n <= now_count ORDER BY p.n));
    END IF;
    PERFORM @S@.count_queued(array_agg(l.webhook), array_agg(-1::bigint), array_agg(-l.bytes::bigint), 0)
    FROM unnest(picked) AS p (id) JOIN @S@.live l ON l.id = p.id;
END $$;

-- Makes delayed runs ready that are due, and queues runs again whose lease is over. Returns how many there were.
CREATE FUNCTION @S@.revive_1(now_ms bigint, most integer) RETURNS integer
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    lanes uuid[];
    lane uuid;
    one @S@.live;
    reads boolean;
    lines text[] := '{}';
    back_webhooks uuid[] := '{}';
    back_bytes bigint[] := '{}';
    revived integer := 0;
    changed integer;
BEGIN
    lanes := ARRAY(SELECT DISTINCT d.webhook FROM (SELECT l.webhook FROM @S@.live l
            WHERE l.state = 1 AND l.due_at <= now() ORDER BY l.due_at LIMIT most) d
        UNION SELECT DISTINCT l.webhook FROM @S@.live l
            WHERE l.state = ANY ('{3,4}'::smallint[]) AND l.lease_until <= now());
    IF cardinality(lanes) = 0 THEN
        RETURN 0;
    END IF;
    PERFORM @S@.lock_bounded(lanes);
    reads := @S@.has_readers();
    FOREACH lane IN ARRAY lanes LOOP
        UPDATE @S@.live SET state = 2, due_at = NULL WHERE id IN (
            SELECT l.id FROM @S@.live l WHERE l.state = 1 AND l.webhook = lane AND l.due_at <= now()
            ORDER BY l.id LIMIT most FOR UPDATE);
        GET DIAGNOSTICS changed = ROW_COUNT;
        revived := revived + changed;
        FOR one IN SELECT l.* FROM @S@.live l
            WHERE l.state = ANY ('{3,4}'::smallint[]) AND l.webhook = lane AND l.lease_until <= now()
            ORDER BY l.id LIMIT most FOR UPDATE LOOP
            revived := revived + 1;
            IF NOT EXISTS (SELECT FROM @S@.webhooks w WHERE w.id = lane) THEN
                PERFORM @S@.bury(one, 8, now_ms, NULL);
                lines := lines || ('h' || E'\t' || one.id);
                CONTINUE;
            END IF;
            UPDATE @S@.live l SET state = 2, interruptions = l.interruptions + 1, due_ms = now_ms, progress = NULL,
                lease_until = NULL
            WHERE l.id = one.id RETURNING l.* INTO one;
            back_webhooks := back_webhooks || one.webhook;
            back_bytes := back_bytes || one.bytes::bigint;
            lines := lines || @S@.line(one);
        END LOOP;
        PERFORM @S@.release(lane);
    END LOOP;
    IF revived > 0 THEN
        PERFORM pg_notify(@C@, 'r');
    END IF;
    IF reads THEN
        PERFORM @S@.tell(lines);
    END IF;
    IF cardinality(back_webhooks) > 0 THEN
        PERFORM @S@.count_queued(back_webhooks, array_fill(1::bigint, ARRAY[cardinality(back_webhooks)]), back_bytes, 0);
    END IF;
    RETURN revived;
END $$;

-- Runs that were claimed ahead execute now.
CREATE FUNCTION @S@.begin_1(ids uuid[], fences bigint[], at_ms bigint[]) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    begun uuid[];
    reads boolean := @S@.has_readers();
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    WITH changed AS (
        UPDATE @S@.live l SET state = 4, started_ms = CASE WHEN l.counted THEN coalesce(l.started_ms, b.at) ELSE l.started_ms END
        FROM (SELECT * FROM unnest(ids, fences, at_ms) AS b (id, fence, at) ORDER BY b.id) b
        WHERE l.id = b.id AND l.fence = b.fence AND l.state = 3 RETURNING l.id)
    SELECT array_agg(id) INTO begun FROM changed;
    IF begun IS NOT NULL AND reads THEN
        PERFORM @S@.tell(ARRAY(SELECT @S@.line(l) FROM @S@.live l WHERE l.id = ANY (begun)));
    END IF;
END $$;

-- Extends leases. The answer has one number for each: -1 lost, 0 held, otherwise why to stop.
CREATE FUNCTION @S@.renew_1(ids uuid[], fences bigint[], progresses bytea[], lease_ms bigint, at_ms bigint)
RETURNS integer[]
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    answers integer[];
    reads boolean := array_remove(progresses, NULL) <> '{}' AND @S@.has_readers();
BEGIN
    WITH changed AS (
        UPDATE @S@.live l
        SET lease_until = now() + lease_ms * interval '1 ms',
            progress = coalesce(r.progress, l.progress),
            state = CASE WHEN r.progress IS NULL THEN l.state ELSE 4 END,
            started_ms = CASE WHEN r.progress IS NULL OR NOT l.counted THEN l.started_ms
                ELSE coalesce(l.started_ms, at_ms) END
        FROM (SELECT * FROM unnest(ids, fences, progresses) WITH ORDINALITY AS r (id, fence, progress, n)
              ORDER BY r.id) r
        WHERE l.id = r.id AND l.fence = r.fence AND l.state = ANY ('{3,4}'::smallint[])
        RETURNING r.n, coalesce(l.cancel, 0)::integer AS cancel)
    SELECT array_agg(coalesce(c.cancel, -1) ORDER BY u.n) INTO answers
    FROM unnest(ids) WITH ORDINALITY AS u (id, n) LEFT JOIN changed c ON c.n = u.n;
    IF reads THEN
        PERFORM @S@.tell(ARRAY(SELECT E'p\t' || u.id || E'\t' || convert_from(u.progress, 'UTF8')
            FROM unnest(ids, progresses) WITH ORDINALITY AS u (id, progress, n)
            WHERE u.progress IS NOT NULL AND answers[u.n] >= 0 AND octet_length(u.progress) < 7000));
    END IF;
    RETURN answers;
END $$;

-- Records how attempts went. Each run occurs once. Kinds: 0 ended, 1 retry, 2 hand-back; those that end go as one.
-- `bounded` names the webhooks with a bound, as far as the caller knows. The answer has an element for each that is
-- recorded; the others are stale.
CREATE FUNCTION @S@.settle_1(bounded uuid[], ids uuid[], fences bigint[], kinds integer[], states integer[],
    outcomes bytea[], delays_ms bigint[], dues_ms bigint[], nows_ms bigint[], starts_ms bigint[], wants_all boolean[],
    superseded bytea, delivery_rows integer[], delivery_ids uuid[], delivery_states integer[], delivery_channels text[],
    delivery_records bytea[],
    OUT places integer[], OUT now_states integer[], OUT attempts integer[], OUT interruptions integer[],
    OUT cancels integer[], OUT started_ms bigint[], OUT due_ms bigint[], OUT finished_ms bigint[],
    OUT progresses bytea[], OUT results bytea[], OUT webhooks uuid[], OUT workflows text[], OUT fixed bytea[],
    OUT parameters bytea[], OUT claimers text[])
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    one @S@.live;
    reads boolean;
    lines text[] := '{}';
    lanes uuid[] := bounded;
    late uuid[];
    back_webhooks uuid[] := '{}';
    back_bytes bigint[] := '{}';
    lane uuid;
    added bigint := 0;
    at_ms bigint;
    result bytea;
    as_state integer;
BEGIN
    PERFORM @S@.lock_lanes(bounded, true);
    reads := @S@.has_readers();
    WITH gone AS (
        DELETE FROM @S@.live l
        USING (SELECT * FROM unnest(ids, fences, kinds, states, outcomes, nows_ms, starts_ms)
               WITH ORDINALITY AS s (id, fence, kind, ending, outcome, at, start, n) WHERE s.kind = 0 ORDER BY s.id) s
        WHERE l.id = s.id AND l.fence = s.fence AND l.state = ANY ('{3,4}'::smallint[])
        RETURNING s.n, l.id, l.webhook, l.fence,
            CASE WHEN l.state = 3 AND l.counted THEN coalesce(l.started_ms, s.start) ELSE l.started_ms END AS started_ms,
            l.due_ms, s.at, l.attempt, l.interruptions, s.ending, l.cancel, l.workflow, l.claimer, l.fixed, l.parameters,
            l.progress, s.outcome),
    kept AS (
        INSERT INTO @S@.history (id, webhook, fence, started_ms, due_ms, finished_ms, attempt, interruptions, state,
            cancel, workflow, claimer, fixed, parameters, progress, outcome)
        SELECT g.id, g.webhook, g.fence, g.started_ms, g.due_ms, g.at, g.attempt, g.interruptions, g.ending, g.cancel,
            g.workflow, g.claimer, g.fixed, g.parameters, g.progress, g.outcome
        FROM gone g)
    SELECT coalesce(array_agg(g.n::integer), '{}'), coalesce(array_agg(g.ending), '{}'),
        coalesce(array_agg(g.attempt), '{}'), coalesce(array_agg(g.interruptions), '{}'),
        coalesce(array_agg(g.cancel::integer), '{}'), coalesce(array_agg(g.started_ms), '{}'),
        coalesce(array_agg(g.due_ms), '{}'), coalesce(array_agg(g.at), '{}'), coalesce(array_agg(g.progress), '{}'),
        coalesce(array_agg(NULL::bytea), '{}'), coalesce(array_agg(g.webhook), '{}'),
        coalesce(array_agg(g.workflow), '{}'),
        coalesce(array_agg(CASE WHEN wants_all[g.n] THEN g.fixed END), '{}'),
        coalesce(array_agg(CASE WHEN wants_all[g.n] THEN g.parameters END), '{}'), coalesce(array_agg(g.claimer), '{}')
    INTO places, now_states, attempts, interruptions, cancels, started_ms, due_ms, finished_ms, progresses, results,
        webhooks, workflows, fixed, parameters, claimers
    FROM gone g;
    IF reads THEN
        lines := ARRAY(SELECT E'h\t' || ids[p] || CASE WHEN p = ANY (delivery_rows) THEN E'\td' ELSE '' END
            FROM unnest(places) p);
    END IF;
    late := ARRAY(SELECT DISTINCT w.id FROM unnest(webhooks) d JOIN @S@.webhooks w ON w.id = d
        WHERE w.bound IS NOT NULL AND w.id <> ALL (bounded));
    FOR i IN 1 .. cardinality(ids) LOOP
        CONTINUE WHEN kinds[i] = 0;
        SELECT l.* INTO one FROM @S@.live l
        WHERE l.id = ids[i] AND l.fence = fences[i] AND l.state = ANY ('{3,4}'::smallint[]) FOR UPDATE;
        CONTINUE WHEN one.id IS NULL;
        IF one.state = 3 AND one.counted THEN
            one.started_ms := coalesce(one.started_ms, starts_ms[i]);
        END IF;
        result := NULL;
        at_ms := NULL;
        IF one.cancel IS NOT NULL OR NOT EXISTS (SELECT FROM @S@.webhooks w WHERE w.id = one.webhook) THEN
            as_state := CASE WHEN one.cancel IS NULL AND kinds[i] = 1 THEN 6 ELSE 8 END;
            at_ms := nows_ms[i];
            result := CASE WHEN as_state = 6 THEN outcomes[i] WHEN one.cancel = 2 THEN superseded END;
            PERFORM @S@.bury(one, as_state, at_ms, result);
            lines := lines || (E'h\t' || one.id);
        ELSE
            one.lease_until := NULL;
            one.progress := NULL;
            one.due_ms := dues_ms[i];
            one.state := 2;
            IF kinds[i] = 1 THEN
                one.error := outcomes[i];
                IF delays_ms[i] > 0 THEN
                    one.state := 1;
                    one.due_at := now() + delays_ms[i] * interval '1 ms';
                END IF;
            ELSE
                one.attempt := greatest(one.attempt - 1, 0);
                IF one.attempt = 0 THEN
                    one.started_ms := NULL;
                END IF;
            END IF;
            UPDATE @S@.live l SET state = one.state, lease_until = NULL, progress = NULL, due_ms = one.due_ms,
                due_at = one.due_at, error = one.error, attempt = one.attempt, started_ms = one.started_ms
            WHERE l.id = one.id;
            back_webhooks := back_webhooks || one.webhook;
            back_bytes := back_bytes || one.bytes::bigint;
            lines := lines || @S@.line(one);
            as_state := one.state;
            result := one.error;
        END IF;
        IF one.webhook <> ALL (lanes || late) THEN
            late := late || one.webhook;
        END IF;
        places := places || i;
        now_states := now_states || as_state;
        attempts := attempts || one.attempt;
        interruptions := interruptions || one.interruptions;
        cancels := cancels || one.cancel::integer;
        started_ms := started_ms || one.started_ms;
        due_ms := due_ms || one.due_ms;
        finished_ms := finished_ms || at_ms;
        progresses := array_append(progresses, one.progress);
        results := array_append(results, result);
        webhooks := webhooks || one.webhook;
        workflows := array_append(workflows, one.workflow);
        fixed := array_append(fixed, CASE WHEN wants_all[i] THEN one.fixed END);
        parameters := array_append(parameters, CASE WHEN wants_all[i] THEN one.parameters END);
        claimers := array_append(claimers, one.claimer);
    END LOOP;
    -- Rarely any: the caller knows the bounds but for those that were changed or claimed elsewhere.
    PERFORM @S@.lock_lanes(late, true);
    lanes := lanes || late;
    FOREACH lane IN ARRAY lanes LOOP
        PERFORM @S@.release(lane);
    END LOOP;
    IF cardinality(lanes) > 0 THEN
        PERFORM pg_notify(@C@, 'r');
    END IF;
    IF cardinality(delivery_rows) > 0 THEN
        INSERT INTO @S@.deliveries (id, run, due_at, state, channel, record)
        SELECT d.id, ids[d.n], now(), d.state, d.channel, d.record
        FROM unnest(delivery_rows, delivery_ids, delivery_states, delivery_channels, delivery_records)
            AS d (n, id, state, channel, record)
        WHERE d.n = ANY (places);
        SELECT count(*) INTO added FROM unnest(delivery_rows, delivery_states) AS d (n, state)
        WHERE d.n = ANY (places) AND d.state = 0;
        IF added > 0 THEN
            PERFORM pg_notify(@C@, 'd');
        END IF;
    END IF;
    IF reads THEN
        PERFORM @S@.tell(lines);
    END IF;
    IF cardinality(back_webhooks) > 0 OR added > 0 THEN
        PERFORM @S@.count_queued(back_webhooks, array_fill(1::bigint, ARRAY[cardinality(back_webhooks)]), back_bytes,
            added);
    END IF;
END $$;

-- Cancels a queued run or asks for the cancellation of a claimed one. e ended, r requested, l too late, n unknown.
CREATE FUNCTION @S@.cancel_1(run uuid, now_ms bigint) RETURNS text
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    one @S@.live;
    reads boolean;
BEGIN
    SELECT l.* INTO one FROM @S@.live l WHERE l.id = run;
    IF one.id IS NULL THEN
        RETURN CASE WHEN EXISTS (SELECT FROM @S@.history h WHERE h.id = run) THEN 'l' ELSE 'n' END;
    END IF;
    PERFORM @S@.lock_bounded(ARRAY[one.webhook]);
    reads := @S@.has_readers();
    SELECT l.* INTO one FROM @S@.live l WHERE l.id = run FOR UPDATE;
    IF one.id IS NULL THEN
        RETURN CASE WHEN EXISTS (SELECT FROM @S@.history h WHERE h.id = run) THEN 'l' ELSE 'n' END;
    END IF;
    IF one.state >= 3 THEN
        UPDATE @S@.live l SET cancel = 1 WHERE l.id = run AND l.cancel IS NULL;
        PERFORM @S@.tell_cancelled(1, ARRAY[run]);
        RETURN 'r';
    END IF;
    PERFORM @S@.bury(one, 8, now_ms, NULL);
    PERFORM @S@.release(one.webhook);
    PERFORM pg_notify(@C@, 'r');
    IF reads THEN
        PERFORM @S@.tell(ARRAY[E'h\t' || run]);
    END IF;
    PERFORM @S@.count_queued(ARRAY[one.webhook], ARRAY[-1::bigint], ARRAY[-one.bytes::bigint], 0);
    RETURN 'e';
END $$;

-- Replaces a webhook's record. u updated, n unknown, r another revision.
CREATE FUNCTION @S@.update_webhook_1(webhook uuid, expected bigint, next_revision bigint, next_bound integer,
    next_retention integer, next_enabled boolean, next_workflow text, next_digest bytea, next_record bytea) RETURNS text
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    stored record;
    room bigint;
BEGIN
    PERFORM @S@.lock_lanes(ARRAY[webhook], true);
    SELECT w.revision, w.bound INTO stored FROM @S@.webhooks w WHERE w.id = webhook FOR UPDATE;
    IF stored.revision IS NULL THEN
        RETURN 'n';
    ELSIF stored.revision <> expected THEN
        RETURN 'r';
    END IF;
    UPDATE @S@.webhooks w SET revision = next_revision, bound = next_bound, retention_days = next_retention,
        enabled = next_enabled, workflow = next_workflow, token_digest = next_digest, record = next_record
    WHERE w.id = webhook;
    IF stored.bound IS DISTINCT FROM next_bound THEN
        IF next_bound IS NOT NULL THEN
            SELECT greatest(next_bound - count(*), 0) INTO room FROM @S@.live l
            WHERE l.webhook = update_webhook_1.webhook AND l.state = ANY ('{3,4}'::smallint[]);
            UPDATE @S@.live l SET state = 2 WHERE l.state = 0 AND l.id IN (
                SELECT r.id FROM @S@.live r WHERE r.state = 0 AND r.webhook = update_webhook_1.webhook
                ORDER BY r.id OFFSET room FOR UPDATE);
        END IF;
        PERFORM @S@.release(webhook);
        PERFORM pg_notify(@C@, 'r');
    END IF;
    RETURN 'u';
END $$;

-- Removes a webhook and cancels what waits for it. Returns those runs, oldest first; null with `failed` n or r.
CREATE FUNCTION @S@.delete_webhook_1(webhook uuid, expected bigint, now_ms bigint, OUT failed text, OUT cancelled uuid[])
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    stored bigint;
    freed bigint;
    reads boolean;
BEGIN
    PERFORM @S@.lock_lanes(ARRAY[webhook], true);
    reads := @S@.has_readers();
    SELECT w.revision INTO stored FROM @S@.webhooks w WHERE w.id = webhook FOR UPDATE;
    IF stored IS NULL THEN
        failed := 'n';
        RETURN;
    ELSIF stored <> expected THEN
        failed := 'r';
        RETURN;
    END IF;
    DELETE FROM @S@.webhooks w WHERE w.id = webhook;
    DELETE FROM @S@.rates r WHERE r.webhook = delete_webhook_1.webhook;
    WITH old AS (DELETE FROM @S@.calls c WHERE c.webhook = delete_webhook_1.webhook RETURNING c.bytes)
    SELECT coalesce(sum(o.bytes), 0) INTO freed FROM old o;
    PERFORM @S@.count_calls(-freed);
    WITH gone AS (
        DELETE FROM @S@.live l WHERE l.webhook = delete_webhook_1.webhook AND l.state = ANY ('{0,1,2}'::smallint[])
        RETURNING l.*),
    kept AS (
        INSERT INTO @S@.history (id, webhook, fence, started_ms, due_ms, finished_ms, attempt, interruptions, state,
            cancel, workflow, claimer, fixed, parameters, progress, outcome)
        SELECT g.id, g.webhook, g.fence, g.started_ms, g.due_ms, now_ms, g.attempt, g.interruptions, 8, g.cancel,
            g.workflow, g.claimer, g.fixed, g.parameters, g.progress, NULL
        FROM gone g)
    SELECT coalesce(array_agg(g.id ORDER BY g.id), '{}'), coalesce(sum(g.bytes), 0) INTO cancelled, freed FROM gone g;
    IF reads THEN
        PERFORM @S@.tell(ARRAY(SELECT E'h\t' || c FROM unnest(cancelled) c));
    END IF;
    IF cardinality(cancelled) > 0 THEN
        PERFORM @S@.count_queued(ARRAY[webhook], ARRAY[-cardinality(cancelled)::bigint], ARRAY[-freed], 0);
    END IF;
    -- Nothing of this webhook is queued any more, or ever will be.
    DELETE FROM @S@.counts c WHERE c.webhook = delete_webhook_1.webhook;
END $$;

-- Appends to the log of a run that is running under this fence, and drops what is older than is kept.
CREATE FUNCTION @S@.append_log_1(ids uuid[], fences bigint[], texts bytea[], kept integer) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    line_end bigint;
    reads boolean;
    lines text[] := '{}';
    size integer;
    short bytea;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    reads := @S@.has_readers();
    FOR i IN 1 .. cardinality(ids) LOOP
        size := octet_length(texts[i]);
        UPDATE @S@.live l SET log_end = l.log_end + size
        WHERE l.id = ids[i] AND l.fence = fences[i] AND l.state = 4 RETURNING l.log_end INTO line_end;
        CONTINUE WHEN line_end IS NULL;
        INSERT INTO @S@.logs (run, start, text) VALUES (ids[i], line_end - size, texts[i]);
        IF line_end > kept AND line_end / 65536 <> (line_end - size) / 65536 THEN
            DELETE FROM @S@.logs g WHERE g.run = ids[i] AND g.start + octet_length(g.text) <= line_end - kept - 65536;
        END IF;
        IF reads THEN
            lines := lines || (E'l\t' || ids[i] || E'\t' || (line_end - size) || E'\t' || size);
        END IF;
    END LOOP;
    PERFORM @S@.tell(lines);
END $$;

-- Adds to the bytes of all calls.
CREATE FUNCTION @S@.count_calls(by_bytes bigint) RETURNS void
LANGUAGE sql
AS $$ INSERT INTO @S@.call_bytes AS c (slot, bytes) SELECT pg_backend_pid() % 8, by_bytes WHERE by_bytes <> 0
    ON CONFLICT (slot) DO UPDATE SET bytes = c.bytes + excluded.bytes $$;

-- Adds calls of known webhooks to the call log, and drops the oldest beyond `kept` of each webhook and `most_bytes` of all.
CREATE FUNCTION @S@.append_calls_1(ids uuid[], of_webhooks uuid[], sizes integer[], records bytea[], kept integer,
    most_bytes bigint) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    reads boolean;
    added uuid[];
    called uuid[];
    one uuid;
    grown bigint;
    gone bigint;
    excess bigint;
    newest uuid;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    -- No call is added to a webhook that is being deleted.
    PERFORM @S@.lock_lanes(of_webhooks, false);
    reads := @S@.has_readers();
    WITH new AS (
        INSERT INTO @S@.calls AS c (id, webhook, bytes, record)
        SELECT u.id, u.webhook, u.bytes, u.record
        FROM unnest(ids, of_webhooks, sizes, records) AS u (id, webhook, bytes, record)
        JOIN @S@.webhooks w ON w.id = u.webhook ORDER BY u.id
        ON CONFLICT (id) DO NOTHING RETURNING c.id, c.webhook, c.bytes)
    SELECT array_agg(n.id), array_agg(DISTINCT n.webhook), coalesce(sum(n.bytes), 0) INTO added, called, grown FROM new n;
    IF added IS NULL THEN
        RETURN;
    END IF;
    IF reads THEN
        -- One more than an event holds, so that its reader sees that there were more.
        PERFORM @S@.tell(ARRAY(SELECT E'a\t' || w || E'\t' || (SELECT string_agg(n.id::text, ',' ORDER BY n.id)
            FROM (SELECT c.id FROM unnest(added) AS a (id) JOIN @S@.calls c ON c.id = a.id WHERE c.webhook = w
                ORDER BY c.id DESC LIMIT 21) n) FROM unnest(called) w));
    END IF;
    FOREACH one IN ARRAY called LOOP
        WITH old AS (DELETE FROM @S@.calls c WHERE c.webhook = one AND c.id <= (
            SELECT l.id FROM @S@.calls l WHERE l.webhook = one ORDER BY l.id DESC, l.bytes DESC OFFSET kept LIMIT 1)
            RETURNING c.bytes)
        SELECT coalesce(sum(o.bytes), 0) INTO gone FROM old o;
        grown := grown - gone;
    END LOOP;
    PERFORM @S@.count_calls(grown);
    SELECT sum(b.bytes) - most_bytes INTO excess FROM @S@.call_bytes b;
    -- One process at a time removes, and some more than it must, so that this is rare.
    IF excess > 0 AND pg_try_advisory_xact_lock(@SALT@ + 2) THEN
        SELECT s.id INTO newest FROM (SELECT c.id, sum(c.bytes) OVER (ORDER BY c.id) AS upto FROM @S@.calls c) s
        WHERE s.upto >= excess + most_bytes / 16 ORDER BY s.id LIMIT 1;
        WITH old AS (DELETE FROM @S@.calls c WHERE c.id <= newest RETURNING c.bytes)
        SELECT coalesce(sum(o.bytes), 0) INTO gone FROM old o;
        PERFORM @S@.count_calls(-gone);
    END IF;
END $$;

-- Adds contents of calls that are in the log, and drops the oldest beyond `most_of_webhook` bytes of each webhook and
-- `most_bytes` of all.
CREATE FUNCTION @S@.keep_contents_1(of_calls uuid[], ends_ms bigint[], contents bytea[], most_of_webhook bigint,
    most_bytes bigint) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    one uuid;
    last uuid;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    -- Processes take turns, so that the removals of two do not wait for each other.
    PERFORM pg_advisory_xact_lock(@SALT@ + 3);
    INSERT INTO @S@.call_contents (call, webhook, bytes, expires_ms, sealed)
    SELECT c.id, c.webhook, octet_length(u.sealed), u.expires_ms, u.sealed
    FROM unnest(of_calls, ends_ms, contents) AS u (call, expires_ms, sealed)
    JOIN @S@.calls c ON c.id = u.call ORDER BY c.id FOR KEY SHARE OF c
    ON CONFLICT (call) DO NOTHING;
    FOR one IN SELECT DISTINCT c.webhook FROM @S@.calls c WHERE c.id = ANY (of_calls) LOOP
        SELECT s.call INTO last FROM (
            SELECT d.call, sum(d.bytes) OVER (ORDER BY d.call DESC) AS upto
            FROM @S@.call_contents d WHERE d.webhook = one) s
        WHERE s.upto > most_of_webhook ORDER BY s.call DESC LIMIT 1;
        DELETE FROM @S@.call_contents d WHERE d.webhook = one AND d.call <= last;
    END LOOP;
    SELECT s.call INTO last FROM (
        SELECT d.call, sum(d.bytes) OVER (ORDER BY d.call DESC) AS upto FROM @S@.call_contents d) s
    WHERE s.upto > most_bytes ORDER BY s.call DESC LIMIT 1;
    DELETE FROM @S@.call_contents d WHERE d.call <= last;
END $$;

-- A call of a webhook, and its content if that has not expired.
CREATE FUNCTION @S@.call_1(of_webhook uuid, of_call uuid, now_ms bigint) RETURNS TABLE (record bytea, sealed bytea)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    RETURN QUERY SELECT c.record, d.sealed FROM @S@.calls c
    LEFT JOIN @S@.call_contents d ON d.call = c.id AND d.expires_ms > now_ms
    WHERE c.id = of_call AND c.webhook = of_webhook;
END $$;

-- The calls of a webhook, newest first.
CREATE FUNCTION @S@.list_calls_1(of_webhook uuid, before uuid, most bigint) RETURNS SETOF bytea
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    RETURN QUERY SELECT c.record FROM @S@.calls c WHERE c.webhook = of_webhook AND c.id < before
    ORDER BY c.id DESC, c.bytes DESC LIMIT most;
END $$;

-- Removes ended runs past their retention with all that belongs to them, and keys past their time.
CREATE FUNCTION @S@.prune_1(now_ms bigint, keep_ms bigint, keep_count bigint, most integer,
    OUT removed uuid[], OUT more boolean)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    lane uuid := '00000000-0000-0000-0000-000000000000';
    past_ms bigint;
    last_ms bigint;
    last_id uuid;
    found_ids uuid[] := '{}';
BEGIN
    -- Counts of hosts' transactions that have ended.
    WITH gone AS (
        DELETE FROM @S@.counts c USING (SELECT s.webhook, s.slot FROM @S@.counts s WHERE s.slot >= 100
            ORDER BY s.webhook, s.slot LIMIT 1000 FOR UPDATE SKIP LOCKED) s
        WHERE c.webhook = s.webhook AND c.slot = s.slot RETURNING c.*)
    INSERT INTO @S@.counts AS c (webhook, slot, queued, bytes, pending)
    SELECT g.webhook, 0, sum(g.queued), sum(g.bytes), sum(g.pending) FROM gone g GROUP BY g.webhook ORDER BY g.webhook
    ON CONFLICT (webhook, slot) DO UPDATE
    SET queued = c.queued + excluded.queued, bytes = c.bytes + excluded.bytes, pending = c.pending + excluded.pending;
    DELETE FROM @S@.call_contents d WHERE d.call IN (
        SELECT e.call FROM @S@.call_contents e WHERE e.expires_ms <= now_ms ORDER BY e.expires_ms, e.call LIMIT 10000);
    DELETE FROM @S@.keys k WHERE (k.webhook, k.key) IN (
        SELECT e.webhook, e.key FROM @S@.keys e WHERE e.expires_at <= now() ORDER BY e.expires_at LIMIT 10000);
    LOOP
        SELECT h.webhook INTO lane FROM @S@.history h WHERE h.webhook > lane ORDER BY h.webhook LIMIT 1;
        EXIT WHEN lane IS NULL OR cardinality(found_ids) > most;
        SELECT now_ms - coalesce(w.retention_days * 86400000::bigint, keep_ms) INTO past_ms
        FROM (SELECT 1) o LEFT JOIN @S@.webhooks w ON w.id = lane;
        last_ms := NULL;
        IF keep_count IS NOT NULL THEN
            SELECT h.finished_ms, h.id INTO last_ms, last_id FROM @S@.history h WHERE h.webhook = lane
            ORDER BY h.finished_ms DESC, h.id DESC OFFSET keep_count LIMIT 1;
        END IF;
        found_ids := found_ids || ARRAY(
            SELECT h.id FROM @S@.history h
            WHERE h.webhook = lane AND h.finished_ms <= greatest(past_ms, last_ms)
                AND (h.finished_ms <= past_ms OR (h.finished_ms, h.id) <= (last_ms, last_id))
                AND NOT EXISTS (SELECT FROM @S@.deliveries d WHERE d.run = h.id AND d.state = 0)
                AND NOT EXISTS (SELECT FROM @S@.keys k WHERE k.run = h.id AND k.until_ms > now_ms)
            ORDER BY h.finished_ms, h.id LIMIT most + 1 - cardinality(found_ids));
    END LOOP;
    more := cardinality(found_ids) > most;
    found_ids := found_ids[1 : most];
    WITH gone AS (DELETE FROM @S@.history h WHERE h.id = ANY (found_ids) RETURNING h.id)
    SELECT coalesce(array_agg(g.id), '{}') INTO removed FROM gone g;
    DELETE FROM @S@.logs g WHERE g.run = ANY (removed);
    DELETE FROM @S@.deliveries d WHERE d.run = ANY (removed);
    DELETE FROM @S@.keys k WHERE k.run = ANY (removed);
END $$;

-- Takes one call out of each webhook's bucket. The answer is the pause in milliseconds until there is one, or 0.
CREATE FUNCTION @S@.take_calls_1(webhooks uuid[], per_minute integer[], bursts integer[], calls integer[])
RETURNS bigint[]
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    answers bigint[] := '{}';
    held double precision;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    FOR i IN 1 .. cardinality(webhooks) LOOP
        INSERT INTO @S@.rates AS r (webhook, tokens, filled_at) VALUES (webhooks[i], bursts[i] - calls[i], clock_timestamp())
        ON CONFLICT (webhook) DO UPDATE
        SET tokens = least(bursts[i], r.tokens + per_minute[i] / 60.0
                * greatest(extract(epoch FROM clock_timestamp() - r.filled_at), 0)) - calls[i],
            filled_at = greatest(clock_timestamp(), r.filled_at)
        WHERE least(bursts[i], r.tokens + per_minute[i] / 60.0
                * greatest(extract(epoch FROM clock_timestamp() - r.filled_at), 0)) >= calls[i]
        RETURNING tokens INTO held;
        IF FOUND THEN
            answers := answers || 0::bigint;
        ELSE
            SELECT greatest(1, ceil((calls[i] - r.tokens) * 60000.0 / per_minute[i]
                - 1000 * extract(epoch FROM clock_timestamp() - r.filled_at)))::bigint INTO held
            FROM @S@.rates r WHERE r.webhook = webhooks[i];
            answers := answers || held::bigint;
        END IF;
    END LOOP;
    RETURN answers;
END $$;

-- For how many milliseconds no run becomes ready by itself; null if none will.
CREATE FUNCTION @S@.next_run_1() RETURNS double precision
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    RETURN 1000 * extract(epoch FROM least(
        (SELECT min(due_at) FROM @S@.live WHERE state = 1),
        (SELECT min(lease_until) FROM @S@.live WHERE state = ANY ('{3,4}'::smallint[]))) - clock_timestamp());
END $$;

-- The channels that have pending deliveries: `only` one, or all but some.
CREATE FUNCTION @S@.pending_channels(only_one text, but text[]) RETURNS SETOF text
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    past text := '';
BEGIN
    IF only_one IS NOT NULL THEN
        RETURN NEXT only_one;
        RETURN;
    END IF;
    LOOP
        SELECT d.channel INTO past FROM @S@.deliveries d WHERE d.state = 0 AND d.channel > past
        ORDER BY d.channel LIMIT 1;
        EXIT WHEN past IS NULL;
        IF past <> ALL (but) THEN
            RETURN NEXT past;
        END IF;
    END LOOP;
END $$;

CREATE FUNCTION @S@.next_delivery_1(only_one text, but text[]) RETURNS double precision
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    RETURN (SELECT 1000 * extract(epoch FROM min(n.due_at) - clock_timestamp())
        FROM @S@.pending_channels(only_one, but) AS c (channel)
        CROSS JOIN LATERAL (SELECT d.due_at FROM @S@.deliveries d WHERE d.state = 0 AND d.channel = c.channel
            ORDER BY d.due_at LIMIT 1) n);
END $$;

-- Claims due deliveries of the channels that are asked for, earliest first.
CREATE FUNCTION @S@.claim_deliveries_1(most integer, lease_ms bigint, only_one text, but text[]) RETURNS SETOF bytea
LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_bitmapscan = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    picked uuid[] := '{}';
    batch uuid[];
    one text;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    FOR one IN SELECT * FROM @S@.pending_channels(only_one, but) LOOP
        batch := ARRAY(SELECT d.id FROM @S@.deliveries d
            WHERE d.state = 0 AND d.channel = one AND d.due_at <= now()
            ORDER BY d.due_at, d.id LIMIT most FOR UPDATE SKIP LOCKED);
        picked := picked || batch;
    END LOOP;
    picked := ARRAY(SELECT d.id FROM unnest(picked) AS p (id) JOIN @S@.deliveries d ON d.id = p.id
        ORDER BY d.due_at, d.id LIMIT most);
    RETURN QUERY
    WITH claimed AS (
        UPDATE @S@.deliveries d SET due_at = now() + lease_ms * interval '1 ms'
        FROM unnest(picked) WITH ORDINALITY AS p (id, n) WHERE d.id = p.id RETURNING p.n, d.record)
    SELECT c.record FROM claimed c ORDER BY c.n;
END $$;

-- Deliveries to be changed, and locked until the transaction ends.
CREATE FUNCTION @S@.lock_deliveries_1(ids uuid[]) RETURNS SETOF bytea
LANGUAGE plpgsql SET enable_seqscan = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    RETURN QUERY SELECT d.record FROM @S@.deliveries d WHERE d.id = ANY (ids) ORDER BY d.id FOR UPDATE;
END $$;

-- Changes deliveries that are locked, of which so many more are pending now.
CREATE FUNCTION @S@.change_deliveries_1(ids uuid[], records bytea[], states smallint[], pauses_ms bigint[],
    pending_by bigint) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    UPDATE @S@.deliveries d SET record = c.record, state = c.state, due_at = now() + c.pause * interval '1 ms'
    FROM unnest(ids, records, states, pauses_ms) AS c (id, record, state, pause) WHERE d.id = c.id;
    IF pending_by <> 0 THEN
        PERFORM @S@.count_queued('{}', '{}', '{}', pending_by);
    END IF;
    IF 0 = ANY (states) THEN
        PERFORM pg_notify(@C@, 'd');
    END IF;
END $$;

-- A process reads events from now on for some seconds. With `is_new` this waits for what is under way, so that the
-- reader misses nothing that is committed later, and a notification tells it where to begin.
CREATE FUNCTION @S@.read_events_1(process uuid, name text, seconds double precision, is_new boolean, token text)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    IF is_new THEN
        PERFORM pg_advisory_xact_lock(@SALT@);
    END IF;
    IF token <> '' THEN
        PERFORM pg_notify(@C@, 'y' || token);
    END IF;
    INSERT INTO @S@.processes AS p (id, name, seen_at, reads_until)
    VALUES (process, read_events_1.name, now(), now() + seconds * interval '1 s')
    ON CONFLICT (id) DO UPDATE SET seen_at = now(), reads_until = excluded.reads_until;
END $$;

-- Counts of what is there. It also says whether the database can be written.
CREATE FUNCTION @S@.health_1(OUT queued bigint, OUT running bigint, OUT pending bigint, OUT is_read_only boolean)
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    SELECT coalesce(sum(c.queued), 0), coalesce(sum(c.pending), 0) INTO queued, pending
    FROM @S@.counts c WHERE c.webhook = @ALL@;
    queued := queued + (SELECT count(*) FROM @S@.live l WHERE l.state = 3);
    running := (SELECT count(*) FROM @S@.live l WHERE l.state = 4);
    is_read_only := pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean;
END $$;

-- Runs by their ids, in no order. One statement sees each in one of the two tables.
CREATE FUNCTION @S@.runs_1(ids uuid[])
RETURNS TABLE (id uuid, webhook uuid, workflow text, state smallint, attempt integer, interruptions integer, fence bigint,
    cancel smallint, started_ms bigint, due_ms bigint, finished_ms bigint, fixed bytea, parameters bytea, progress bytea,
    outcome bytea, claimer text)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT l.id, l.webhook, l.workflow, l.state, l.attempt - (l.state = 3 AND l.counted)::integer, l.interruptions,
        l.fence - (l.state = 3)::integer, l.cancel, l.started_ms, l.due_ms, NULL::bigint, l.fixed, l.parameters,
        l.progress, l.error, CASE WHEN l.state = 3 THEN NULL ELSE l.claimer END
    FROM @S@.live l WHERE l.id = ANY (ids)
    UNION ALL
    SELECT h.id, h.webhook, h.workflow, h.state, h.attempt, h.interruptions, h.fence, h.cancel, h.started_ms, h.due_ms,
        h.finished_ms, h.fixed, h.parameters, h.progress, h.outcome, h.claimer
    FROM @S@.history h WHERE h.id = ANY (ids);
END $$;

-- The ids of runs, newest first. Each index that has some of them in this order gives at most a page. Live runs are
-- bounded by the queue; ended ones are not, so every filter has an index of its own.
CREATE FUNCTION @S@.list_runs_1(live_states smallint[], ended_states smallint[], of_webhook uuid, of_workflow text,
    before uuid, most bigint) RETURNS uuid[]
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    found_live uuid[];
    found_ended uuid[];
BEGIN
    IF of_webhook IS NOT NULL THEN
        found_live := ARRAY(SELECT r.id FROM unnest(live_states) s CROSS JOIN LATERAL (
            SELECT l.id FROM @S@.live l WHERE l.state = s AND l.webhook = of_webhook AND l.id < before
                AND (of_workflow IS NULL OR l.workflow = of_workflow)
            ORDER BY l.id DESC, l.bytes DESC LIMIT most) r ORDER BY r.id DESC LIMIT most);
        found_ended := ARRAY(SELECT r.id FROM unnest(ended_states) s CROSS JOIN LATERAL (
            SELECT h.id FROM @S@.history h WHERE h.state = s AND h.webhook = of_webhook AND h.id < before
                AND (of_workflow IS NULL OR h.workflow = of_workflow)
            ORDER BY h.id DESC, h.finished_ms DESC LIMIT most) r ORDER BY r.id DESC LIMIT most);
    ELSE
        IF cardinality(live_states) = 0 THEN
            found_live := '{}';
        ELSIF live_states = '{4}' THEN
            -- Running runs are few, so they are all read and sorted.
            found_live := ARRAY(SELECT l.id FROM @S@.live l WHERE l.state = 4 AND l.id < before
                AND (of_workflow IS NULL OR l.workflow = of_workflow) ORDER BY l.id DESC, l.fence LIMIT most);
        ELSE
            found_live := ARRAY(SELECT l.id FROM @S@.live l WHERE l.state = ANY (live_states) AND l.id < before
                AND (of_workflow IS NULL OR l.workflow = of_workflow) ORDER BY l.id DESC LIMIT most);
        END IF;
        IF of_workflow IS NOT NULL THEN
            found_ended := ARRAY(SELECT r.id FROM unnest(ended_states) s CROSS JOIN LATERAL (
                SELECT h.id FROM @S@.history h WHERE h.state = s AND h.workflow = of_workflow AND h.id < before
                ORDER BY h.id DESC, h.attempt DESC LIMIT most) r ORDER BY r.id DESC LIMIT most);
        ELSIF cardinality(ended_states) < 5 THEN
            found_ended := ARRAY(SELECT r.id FROM unnest(ended_states) s CROSS JOIN LATERAL (
                SELECT h.id FROM @S@.history h WHERE h.state = s AND h.id < before
                ORDER BY h.id DESC, h.interruptions DESC LIMIT most) r ORDER BY r.id DESC LIMIT most);
        ELSE
            found_ended := ARRAY(SELECT h.id FROM @S@.history h WHERE h.id < before ORDER BY h.id DESC LIMIT most);
        END IF;
    END IF;
    RETURN ARRAY(SELECT DISTINCT u.id FROM unnest(found_live || found_ended) AS u (id) ORDER BY u.id DESC LIMIT most);
END $$;

CREATE FUNCTION @S@.deliveries_of_1(runs uuid[]) RETURNS SETOF bytea
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    RETURN QUERY SELECT d.record FROM @S@.deliveries d WHERE d.run = ANY (runs) ORDER BY d.id;
END $$;

-- Deliveries, newest first.
CREATE FUNCTION @S@.find_deliveries_1(states smallint[], of_channel text, before uuid, most bigint) RETURNS SETOF bytea
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    IF of_channel IS NULL AND cardinality(states) = 3 THEN
        RETURN QUERY SELECT d.record FROM @S@.deliveries d WHERE d.id < before ORDER BY d.id DESC LIMIT most;
    ELSE
        RETURN QUERY
        WITH RECURSIVE channels AS (
            (SELECT s, (SELECT d.channel FROM @S@.deliveries d WHERE d.state = s ORDER BY d.channel LIMIT 1) AS channel
             FROM unnest(states) s)
            UNION ALL
            SELECT c.s, (SELECT d.channel FROM @S@.deliveries d WHERE d.state = c.s AND d.channel > c.channel
                ORDER BY d.channel LIMIT 1)
            FROM channels c WHERE c.channel IS NOT NULL)
        SELECT r.record FROM channels c CROSS JOIN LATERAL (
            SELECT d.id, d.record FROM @S@.deliveries d
            WHERE d.state = c.s AND d.channel = c.channel AND d.id < before
            ORDER BY d.id DESC, d.run DESC LIMIT most) r
        WHERE c.channel IS NOT NULL AND (of_channel IS NULL OR c.channel = of_channel)
        ORDER BY r.id DESC LIMIT most;
    END IF;
END $$;

-- The pieces of a run's log that are kept, or the one at an offset.
CREATE FUNCTION @S@.log_1(of_run uuid, only_at bigint) RETURNS TABLE (start bigint, text bytea)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT g.start, g.text FROM @S@.logs g
    WHERE g.run = of_run AND (only_at IS NULL OR g.start = only_at) ORDER BY g.start;
END $$;
