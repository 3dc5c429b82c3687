-- The second version: lists of one workflow that do not grow with the queue, or with the history of other workflows.

-- The ids of runs, newest first. Each index that has some of them in this order gives at most a page.
--
-- A run has the workflow of its webhook, which never changes. So the list of a webhook needs no filter by workflow, and
-- what is queued of a workflow is found by the webhooks of that workflow, a page of each: `live` needs no other index.
CREATE FUNCTION @S@.list_runs_2(live_states smallint[], ended_states smallint[], of_webhook uuid, of_workflow text,
    before uuid, most bigint) RETURNS uuid[]
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off SET enable_incremental_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    found_live uuid[] := '{}';
    found_ended uuid[] := '{}';
BEGIN
    IF of_webhook IS NOT NULL THEN
        -- Of a webhook that is deleted, any of its runs has the workflow.
        IF of_workflow IS NOT NULL AND of_workflow <> coalesce(
            (SELECT w.workflow FROM @S@.webhooks w WHERE w.id = of_webhook),
            (SELECT h.workflow FROM @S@.history h WHERE h.webhook = of_webhook
                ORDER BY h.webhook, h.finished_ms LIMIT 1),
            of_workflow)
        THEN
            RETURN '{}';
        END IF;
        found_live := ARRAY(SELECT r.id FROM unnest(live_states) s CROSS JOIN LATERAL (
            SELECT l.id FROM @S@.live l WHERE l.state = s AND l.webhook = of_webhook AND l.id < before
                AND (of_workflow IS NULL OR l.workflow = of_workflow)
            ORDER BY l.id DESC, l.bytes DESC LIMIT most) r ORDER BY r.id DESC LIMIT most);
        found_ended := ARRAY(SELECT r.id FROM unnest(ended_states) s CROSS JOIN LATERAL (
            SELECT h.id FROM @S@.history h WHERE h.state = s AND h.webhook = of_webhook AND h.id < before
                AND (of_workflow IS NULL OR h.workflow = of_workflow)
            ORDER BY h.id DESC, h.finished_ms DESC LIMIT most) r ORDER BY r.id DESC LIMIT most);
    ELSIF of_workflow IS NOT NULL THEN
        IF live_states && '{0,1,2}'::smallint[] THEN
            found_live := ARRAY(SELECT r.id FROM @S@.webhooks w
                CROSS JOIN unnest(ARRAY(SELECT s FROM unnest(live_states) s WHERE s < 3)) AS waiting (state)
                CROSS JOIN LATERAL (
                    SELECT l.id FROM @S@.live l
                    WHERE l.state = waiting.state AND l.webhook = w.id AND l.id < before AND l.workflow = of_workflow
                    ORDER BY l.id DESC, l.bytes DESC LIMIT most) r
                WHERE w.workflow = of_workflow ORDER BY r.id DESC LIMIT most);
        END IF;
        -- Claimed runs are few, also those of deleted webhooks, so they are all read.
        IF live_states && '{3,4}'::smallint[] THEN
            found_live := found_live || ARRAY(
                SELECT c.id FROM (SELECT l.id, l.state, l.workflow FROM @S@.live l
                    WHERE l.state = ANY ('{3,4}'::smallint[]) OFFSET 0) c
                WHERE c.state = ANY (live_states) AND c.workflow = of_workflow AND c.id < before
                ORDER BY c.id DESC LIMIT most);
        END IF;
        found_ended := ARRAY(SELECT r.id FROM unnest(ended_states) s CROSS JOIN LATERAL (
            SELECT h.id FROM @S@.history h WHERE h.state = s AND h.workflow = of_workflow AND h.id < before
            ORDER BY h.id DESC, h.attempt DESC LIMIT most) r ORDER BY r.id DESC LIMIT most);
    ELSE
        IF live_states = '{4}' THEN
            -- Running runs are few, so they are all read and sorted.
            found_live := ARRAY(SELECT l.id FROM @S@.live l WHERE l.state = 4 AND l.id < before
                ORDER BY l.id DESC, l.fence LIMIT most);
        ELSIF cardinality(live_states) > 0 THEN
            found_live := ARRAY(SELECT l.id FROM @S@.live l WHERE l.state = ANY (live_states) AND l.id < before
                ORDER BY l.id DESC LIMIT most);
        END IF;
        IF cardinality(ended_states) < 5 THEN
            found_ended := ARRAY(SELECT r.id FROM unnest(ended_states) s CROSS JOIN LATERAL (
                SELECT h.id FROM @S@.history h WHERE h.state = s AND h.id < before
                ORDER BY h.id DESC, h.interruptions DESC LIMIT most) r ORDER BY r.id DESC LIMIT most);
        ELSE
            found_ended := ARRAY(SELECT h.id FROM @S@.history h WHERE h.id < before ORDER BY h.id DESC LIMIT most);
        END IF;
    END IF;
    RETURN ARRAY(SELECT DISTINCT u.id FROM unnest(found_live || found_ended) AS u (id) ORDER BY u.id DESC LIMIT most);
END $$;
