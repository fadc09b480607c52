-- A partition a month and table, made before its first record is stored. The role that writes owns nothing: it may
-- ask for a partition, and this makes it as the owner.
CREATE FUNCTION trail.ensure_partition(kind text, event_time timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    first timestamptz := date_trunc('month', event_time, 'UTC');
    following timestamptz := (first AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC';
    part text := kind || to_char(first AT TIME ZONE 'UTC', '"_y"YYYY"m"MM');
BEGIN
    IF kind NOT IN ('decisions', 'orders', 'fills', 'dead_letters', 'commands', 'releases', 'experiments') THEN
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
REVOKE EXECUTE ON FUNCTION trail.ensure_partition(text, timestamptz) FROM PUBLIC;
