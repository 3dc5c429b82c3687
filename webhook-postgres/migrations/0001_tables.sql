-- Tables of the first version. `@S@` stands for the quoted name of the schema.
--
-- Three rules shape them:
-- * Claiming never meets history. Runs that are queued or claimed are in `live`, which is small; a run that ends moves
--   to `history`, which is only inserted into and deleted from.
-- * A run is claimed by one update and ended by one delete and one insert, in groups.
-- * Times that decide something (`due_at`, `lease_until`, `expires_at`) are times of this database's clock. Times that
--   are shown (`..._ms`) come from the application, in milliseconds since 1970.

CREATE TABLE @S@.webhooks (
    id uuid CONSTRAINT webhooks_pkey PRIMARY KEY,
    revision bigint NOT NULL,
    -- Moves forward on its own, without a new revision. It is in no index, so its updates are HOT.
    last_used_ms bigint,
    -- Upper bound on claimed runs; none without a number.
    bound integer,
    retention_days integer,
    enabled boolean NOT NULL,
    workflow text COLLATE "C" NOT NULL,
    token_digest bytea NOT NULL CONSTRAINT webhooks_token_digest UNIQUE,
    -- The webhook as JSON. Bytes rather than text, since PostgreSQL's text holds no NUL and depends on an encoding.
    record bytea NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX webhooks_workflow ON @S@.webhooks (workflow, id);

-- Runs that have not ended. States: 0 ready, 1 delayed until `due_at`, 2 held back until its webhook has room,
-- 3 claimed ahead, 4 running.
--
-- Of a webhook with a bound, at most that many runs are ready or claimed: who enqueues or settles decides which run is
-- ready next, under the webhook's lock. So a claim looks at no bound and takes no lock but those of its rows.
CREATE TABLE @S@.live (
    id uuid CONSTRAINT live_pkey PRIMARY KEY,
    webhook uuid NOT NULL,
    fence bigint NOT NULL DEFAULT 0,
    due_at timestamptz,
    lease_until timestamptz,
    started_ms bigint,
    due_ms bigint,
    log_end bigint NOT NULL DEFAULT 0,
    attempt integer NOT NULL DEFAULT 0,
    interruptions integer NOT NULL DEFAULT 0,
    bytes integer NOT NULL,
    state smallint NOT NULL,
    -- Why the run is to stop: 1 requested, 2 superseded, 3 webhook deleted.
    cancel smallint,
    -- Whether the newest claim counts as an attempt.
    counted boolean NOT NULL DEFAULT false,
    workflow text COLLATE "C" NOT NULL,
    claimer text,
    -- What never changes, as JSON: caller, times and attempts allowed.
    fixed bytea NOT NULL,
    parameters bytea,
    progress bytea,
    error bytea
) WITH (
    -- Room for the new version of a row that is claimed, on the same page while that is in memory anyway.
    fillfactor = 70,
    -- Every run leaves two dead rows here within its life, so the number of dead rows says when to clean up, not
    -- their share: an empty table of a busy queue would never reach a share.
    autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_threshold = 100000, autovacuum_analyze_scale_factor = 0.0,
    -- The space of a burst is used again. Giving it back would lock the table against every claim.
    vacuum_truncate = false
);
-- The one index of the hot path: ready runs of each webhook oldest first, the webhooks that have ready runs, what a
-- webhook has claimed, and lists of one webhook. The lease is in no index, so a renewal is a HOT update.
-- Indexes end with a column that never changes and that only completes the order of queries: see the functions.
CREATE INDEX live_lane ON @S@.live (state, webhook, id, bytes);
CREATE INDEX live_due ON @S@.live (due_at) WHERE state = 1;

-- How much is queued, of each webhook and (under the greatest UUID) of all. A group adds its changes to one of several
-- rows, so that groups of different connections seldom wait for each other's commit; the sum counts.
-- They are the last rows that a transaction locks, in the order of the key.
CREATE TABLE @S@.counts (
    webhook uuid NOT NULL,
    slot smallint NOT NULL,
    queued bigint NOT NULL,
    bytes bigint NOT NULL,
    -- Deliveries that are still to go out; of all only.
    pending bigint NOT NULL,
    CONSTRAINT counts_pkey PRIMARY KEY (webhook, slot)
) WITH (
    -- Updated by every group, and HOT as long as there is room on the page: so mostly room.
    fillfactor = 20, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_cost_delay = 0
);

CREATE INDEX counts_apart ON @S@.counts (webhook, slot) WHERE slot >= 100;

-- Runs that have ended. States: 5 succeeded, 6 failed, 7 timed out, 8 cancelled, 9 skipped.
-- Rows are never updated. They are deleted in bounded steps, oldest first, since retention differs between webhooks:
-- index pages become empty from the left and are used again, and so are the pages of the table.
CREATE TABLE @S@.history (
    id uuid CONSTRAINT history_pkey PRIMARY KEY,
    webhook uuid NOT NULL,
    fence bigint NOT NULL,
    started_ms bigint,
    due_ms bigint,
    finished_ms bigint NOT NULL,
    attempt integer NOT NULL,
    interruptions integer NOT NULL,
    state smallint NOT NULL,
    cancel smallint,
    workflow text COLLATE "C" NOT NULL,
    claimer text,
    fixed bytea NOT NULL,
    parameters bytea,
    progress bytea,
    -- Summary, artifacts and error as JSON.
    outcome bytea
) WITH (
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.02
);
CREATE INDEX history_webhook ON @S@.history (webhook, state, id, finished_ms);
CREATE INDEX history_workflow ON @S@.history (workflow, state, id, attempt);
CREATE INDEX history_state ON @S@.history (state, id, interruptions);
CREATE INDEX history_end ON @S@.history (webhook, finished_ms, id);

CREATE TABLE @S@.keys (
    webhook uuid NOT NULL,
    run uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    -- The same by the application's clock, for retention.
    until_ms bigint NOT NULL,
    key bytea NOT NULL,
    fingerprint bytea NOT NULL,
    CONSTRAINT keys_pkey PRIMARY KEY (webhook, key)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX keys_run ON @S@.keys (run);
CREATE INDEX keys_expiry ON @S@.keys (expires_at);

CREATE TABLE @S@.logs (
    run uuid NOT NULL,
    -- Offset of the first byte among all that were ever appended.
    start bigint NOT NULL,
    text bytea NOT NULL,
    CONSTRAINT logs_pkey PRIMARY KEY (run, start)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

-- Deliveries. States: 0 pending, 1 delivered, 2 given up. `due_at` is also the end of a claim's lease.
CREATE TABLE @S@.deliveries (
    id uuid CONSTRAINT deliveries_pkey PRIMARY KEY,
    run uuid NOT NULL,
    due_at timestamptz NOT NULL,
    state smallint NOT NULL,
    channel text COLLATE "C" NOT NULL,
    record bytea NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX deliveries_run ON @S@.deliveries (run, id);
CREATE INDEX deliveries_due ON @S@.deliveries (channel, due_at) WHERE state = 0;
CREATE INDEX deliveries_state ON @S@.deliveries (state, channel, id, run);

-- The newest calls of each webhook, as JSON.
CREATE TABLE @S@.calls (
    id uuid CONSTRAINT calls_pkey PRIMARY KEY,
    webhook uuid NOT NULL,
    -- Its size in the memory of a server, by which the log is bounded.
    bytes integer NOT NULL,
    record bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX calls_webhook ON @S@.calls (webhook, id, bytes);

-- The bytes of all calls, in several rows like `counts`.
CREATE TABLE @S@.call_bytes (
    slot smallint CONSTRAINT call_bytes_pkey PRIMARY KEY,
    bytes bigint NOT NULL
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.0);

-- Sealed contents of accepted calls, where their webhook keeps them. A content goes with its call.
CREATE TABLE @S@.call_contents (
    call uuid CONSTRAINT call_contents_pkey PRIMARY KEY REFERENCES @S@.calls (id) ON DELETE CASCADE,
    webhook uuid NOT NULL,
    bytes integer NOT NULL,
    expires_ms bigint NOT NULL,
    sealed bytea NOT NULL
);
-- Sealed bytes cannot be compressed.
ALTER TABLE @S@.call_contents ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE INDEX call_contents_webhook ON @S@.call_contents (webhook, call, bytes);
CREATE INDEX call_contents_expires ON @S@.call_contents (expires_ms, call);

-- Token buckets of webhooks with a rate limit. Without a log: after a crash of the database every bucket is full.
CREATE UNLOGGED TABLE @S@.rates (
    webhook uuid CONSTRAINT rates_pkey PRIMARY KEY,
    tokens double precision NOT NULL,
    filled_at timestamptz NOT NULL
) WITH (fillfactor = 20, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.0);

-- Processes. A process that reads events says until when: only then are events written at all.
CREATE UNLOGGED TABLE @S@.processes (
    id uuid CONSTRAINT processes_pkey PRIMARY KEY,
    name text NOT NULL,
    seen_at timestamptz NOT NULL,
    reads_until timestamptz
) WITH (fillfactor = 20);
