-- What was kept before there were versions; the trail holds all of it again, from Kafka. Nothing of it is deleted.
DO $$
BEGIN
    IF to_regclass('public.decisions') IS NOT NULL THEN
        ALTER TABLE public.decisions RENAME TO decisions_before_trail;
    END IF;
    IF to_regclass('public.undecodable_decisions') IS NOT NULL THEN
        ALTER TABLE public.undecodable_decisions RENAME TO undecodable_before_trail;
    END IF;
END
$$;
