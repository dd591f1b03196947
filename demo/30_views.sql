-- What a person wants to see.

-- Break lines between words.
CREATE FUNCTION demo.wrap(line text, width int) RETURNS text LANGUAGE sql IMMUTABLE
RETURN rtrim(regexp_replace(line, format('(.{1,%s})(?: +|$)', width), E'\\1\n  ', 'g'), E' \n');

-- Every preset that wants prebuilds or still has some, at a time, with the reasons for what the
-- next pass does about it.
CREATE FUNCTION demo.presets(at timestamptz DEFAULT now())
RETURNS TABLE (template text, preset text, version text, desired bigint,
               running bigint, eligible bigint, starting bigint, deleting bigint,
               "backing off" text, "next pass" text)
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT s.organization_name || '/' || s.template_name, s.preset_name,
           v.name || CASE WHEN s.active THEN '' ELSE ' (old)' END,
           s.desired, s.actual, s.eligible, s.starting, s.deleting,
           CASE WHEN s.hard_limited THEN 'given up'
                WHEN s.backoff_until >= at THEN 'for ' || ceil(extract(epoch FROM s.backoff_until - at)) || ' s'
                ELSE '' END,
           coalesce((SELECT string_agg(demo.wrap(format('%s %s: %s', p.action, p.count, p.reason), 60), E'\n'
                                       ORDER BY p.ordinality)
                     FROM prebuild_plan(at) WITH ORDINALITY AS p
                     WHERE p.preset_id = s.preset_id), '')
    FROM prebuild_state(at) s JOIN template_versions v ON v.id = s.template_version_id
    WHERE s.active OR s.actual + s.starting + s.deleting > 0
    ORDER BY s.organization_name, s.template_name, s.preset_name, v.name
$$;

-- One pass, in words.
CREATE FUNCTION demo.pass(at timestamptz DEFAULT now()) RETURNS text
LANGUAGE sql SET search_path = public, pg_temp AS $$
    SELECT format('%s created, %s deleted, %s canceled, %s presets backing off, %s failed; it took %s ms',
                  r.created, r.deleted, r.canceled, r.backing_off, r.failed,
                  round(extract(epoch FROM r.elapsed) * 1000, 1))
    FROM prebuild_reconcile(at) r
$$;
