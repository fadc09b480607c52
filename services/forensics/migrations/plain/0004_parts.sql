-- A partition a month, for the new kind too.
CREATE OR REPLACE FUNCTION trail.ensure_partition(kind text, event_time timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    first timestamptz := date_trunc('month', event_time, 'UTC');
    following timestamptz := (first AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC';
    part text := kind || to_char(first AT TIME ZONE 'UTC', '"_y"YYYY"m"MM');
BEGIN
    IF kind NOT IN (
        'decisions', 'orders', 'fills', 'dead_letters', 'commands', 'releases', 'experiments', 'starts'
    ) THEN
        RAISE EXCEPTION 'the trail has no table %', kind USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF to_regclass(format('trail.%I', part)) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('trail.' || part));
    IF to_regclass(format('trail.%I', part)) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- Attached rather than made in place: that waits for no one who reads.
    EXECUTE format('CREATE TABLE trail.%I (LIKE trail.%I INCLUDING DEFAULTS INCLUDING STORAGE)', part, kind);
    EXECUTE format(
        'ALTER TABLE trail.%I ATTACH PARTITION trail.%I FOR VALUES FROM (%L) TO (%L)', kind, part, first, following
    );
    RETURN true;
END
$$;

-- Parts of the tables that may be retired, all of whose events are older than a time: table, and part with its schema.
CREATE FUNCTION trail.parts_before(cutoff timestamptz, OUT kind text, OUT part text) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    SELECT parent.relname::text, 'trail.' || quote_ident(child.relname)
    FROM pg_inherits JOIN pg_class parent ON parent.oid = inhparent JOIN pg_class child ON child.oid = inhrelid
    WHERE parent.oid IN (
        'trail.decisions'::regclass, 'trail.orders'::regclass, 'trail.fills'::regclass, 'trail.dead_letters'::regclass
    ) AND (regexp_match(pg_get_expr(child.relpartbound, child.oid), 'TO \(''(.+?)''\)'))[1]::timestamptz <= cutoff
    ORDER BY 1, 2
$$;

CREATE FUNCTION trail.drop_part(kind text, part text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    EXECUTE format('DROP TABLE %s', part::regclass);
END
$$;
