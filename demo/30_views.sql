-- What a person wants to see.

-- Break lines between words.
CREATE FUNCTION demo.wrap(line text, width int) RETURNS text LANGUAGE sql IMMUTABLE
RETURN rtrim(regexp_replace(line, format('(.{1,%s})(?: +|$)', width), E'\\1\n  ', 'g'), E' \n');

-- Every preset that wants prebuilds or still has some, at a time, with what the next pass does
-- about it, and why.
CREATE FUNCTION demo.presets(at timestamptz DEFAULT now())
RETURNS TABLE (preset text, want bigint, runs bigint, ready bigint, starts bigint, "next pass" text)
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT format('%s %s %s', s.template_name, v.name, s.preset_name),
           s.desired, s.actual, s.eligible, s.starting,
           coalesce((SELECT string_agg(demo.wrap(format('%s %s: %s', p.action, p.count, p.reason), 41), E'\n'
                                       ORDER BY p.ordinality)
                     FROM prebuild_plan(at) WITH ORDINALITY AS p
                     WHERE p.preset_id = s.preset_id), '')
    FROM prebuild_state(at) WITH ORDINALITY AS s
         JOIN template_versions v ON v.id = s.template_version_id
    WHERE s.active OR s.actual + s.starting + s.deleting > 0
    ORDER BY s.ordinality
$$;

-- One pass, in words.
CREATE FUNCTION demo.pass(at timestamptz DEFAULT now()) RETURNS text
LANGUAGE sql SET search_path = public, pg_temp AS $$
    SELECT format('%s created, %s deleted, %s canceled, %s presets backing off, %s failed; it took %s ms',
                  r.created, r.deleted, r.canceled, r.backing_off, r.failed,
                  round(extract(epoch FROM r.elapsed) * 1000, 1))
    FROM prebuild_reconcile(at) r
$$;

-- Wait until a query gives true, for half a minute at most.
CREATE PROCEDURE demo.wait_until(query text) LANGUAGE plpgsql AS $$
DECLARE
    reached boolean;
BEGIN
    FOR i IN 1 .. 300 LOOP
        EXECUTE query INTO reached;
        EXIT WHEN reached;
        COMMIT;
        PERFORM pg_sleep(0.1);
    END LOOP;
    IF NOT reached THEN
        RAISE EXCEPTION 'waited in vain for: %', query;
    END IF;
END
$$;
