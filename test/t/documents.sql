-- The fleet on which the documents are run: two prebuilds that have expired, two of a version that
-- was replaced, and one that is missing.

SELECT fixture.preset(fixture.template('android'), 'Emulator', 2);
SELECT fixture.preset(fixture.template('go-service'), 'Europe', 2);
SELECT fixture.preset(fixture.template('jupyter'), 'Small', 2);
SELECT prebuild_reconcile(now() - interval '2 days');
SELECT fixture.work();

UPDATE template_version_presets SET invalidate_after_secs = 86400 WHERE name = 'Emulator';
UPDATE template_version_presets SET desired_instances = 3 WHERE name = 'Small';
WITH next_version AS (
    INSERT INTO template_versions (id, template_id, organization_id, created_at, updated_at, name, readme,
                                   job_id, created_by)
    SELECT gen_random_uuid(), v.template_id, v.organization_id, now(), now(), 'v2', '', v.job_id, v.created_by
    FROM template_versions v JOIN templates t ON t.active_version_id = v.id
    WHERE t.name = 'go-service'
    RETURNING id, template_id
)
UPDATE templates t SET active_version_id = n.id FROM next_version n WHERE t.id = n.template_id;
