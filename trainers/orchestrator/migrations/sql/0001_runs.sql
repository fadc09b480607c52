CREATE TABLE orchestrator.runs (
    id text PRIMARY KEY,
    kind text NOT NULL,
    spec jsonb NOT NULL,
    priority smallint NOT NULL,
    -- what wanted it; the same key is submitted once
    trigger text NOT NULL,
    trigger_key text,
    reason text NOT NULL,
    submitted_by text NOT NULL,
    submitted_at timestamptz NOT NULL DEFAULT now(),
    -- the order within a priority: times may be equal
    place bigint GENERATED ALWAYS AS IDENTITY,
    state text NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'running', 'ended')),
    step text NOT NULL,
    -- the step at which it was rejected, failed or cancelled, while what it began is put back
    stood_at text NOT NULL DEFAULT '',
    verdict text NOT NULL DEFAULT '' CHECK (verdict IN ('', 'succeeded', 'rejected', 'failed', 'cancelled')),
    why text NOT NULL DEFAULT '',
    not_before timestamptz NOT NULL DEFAULT now(),
    -- grows with each attempt; what comes with an older one changes nothing
    fence bigint NOT NULL DEFAULT 0,
    lease_until timestamptz,
    divisor integer NOT NULL DEFAULT 1 CHECK (divisor >= 1),
    cancelled text NOT NULL DEFAULT '',
    -- attempts at this step that failed for themselves, in a row; and those that somebody ended
    failures integer NOT NULL DEFAULT 0,
    losses integer NOT NULL DEFAULT 0,
    outputs jsonb NOT NULL DEFAULT '{}',
    progress jsonb NOT NULL DEFAULT '{}',
    ended_at timestamptz,
    CHECK ((state = 'ended') = (ended_at IS NOT NULL)),
    CHECK ((state = 'running') = (lease_until IS NOT NULL))
);
CREATE UNIQUE INDEX runs_once ON orchestrator.runs (trigger_key) WHERE trigger_key IS NOT NULL;
CREATE INDEX runs_waiting ON orchestrator.runs (priority DESC, place) WHERE state <> 'ended';
CREATE INDEX runs_newest ON orchestrator.runs (submitted_at DESC);

CREATE TABLE orchestrator.attempts (
    run text NOT NULL REFERENCES orchestrator.runs ON DELETE CASCADE,
    fence bigint NOT NULL,
    step text NOT NULL,
    pool text NOT NULL,
    reference text NOT NULL DEFAULT '',
    holder text NOT NULL DEFAULT '',
    memory_mb integer NOT NULL,
    gpu_mb integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    -- while it is null its process may live, and what it takes is taken
    ended_at timestamptz,
    outcome text,
    exit_code integer,
    peak_mb integer,
    why text NOT NULL DEFAULT '',
    PRIMARY KEY (run, fence)
);
CREATE INDEX attempts_living ON orchestrator.attempts (pool) WHERE ended_at IS NULL;

CREATE TABLE orchestrator.events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    -- "" for what happened to no run
    run text NOT NULL DEFAULT '',
    what text NOT NULL,
    done_by text NOT NULL,
    detail text NOT NULL DEFAULT ''
);
CREATE INDEX events_of_run ON orchestrator.events (run, id);

CREATE TABLE orchestrator.schedules (
    name text PRIMARY KEY,
    definition jsonb NOT NULL,
    -- slots later than this are due; the newest that was decided
    after timestamptz NOT NULL,
    paused boolean NOT NULL DEFAULT false
);

CREATE TABLE orchestrator.slots (
    schedule text NOT NULL,
    at timestamptz NOT NULL,
    run text,
    skipped text NOT NULL DEFAULT '',
    decided_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (schedule, at)
);

-- what happened that may begin a run: each is ruled on once
CREATE TABLE orchestrator.firings (
    trigger text NOT NULL,
    key text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    run text,
    refused text NOT NULL DEFAULT '',
    detail jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (trigger, key)
);
CREATE INDEX firings_newest ON orchestrator.firings (at DESC);
