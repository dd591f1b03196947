--
-- What a new prebuild of a preset is built with, and when it is not.
--
\set ECHO none
\i test/fixture/fixture.sql
DO $$ BEGIN
    PERFORM control_plane('inputs');
    PERFORM coder_only();
    PERFORM bare_rows();
END $$;
-- what some control planes have comes later
CREATE FUNCTION fixture.hide(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE IF EXISTS inputs.%I RENAME TO %I', name, 'hidden_' || name);
END;
$$;
CREATE FUNCTION fixture.show(name text, columns text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE CASE WHEN to_regclass('inputs.hidden_' || name) IS NULL
        THEN format('CREATE TABLE inputs.%I (%s)', name, columns)
        ELSE format('ALTER TABLE inputs.%I RENAME TO %I', 'hidden_' || name, name) END;
END;
$$;
SELECT hide(name)
FROM unnest('{template_version_terraform_values,parameter_schemas}'::text[]) name \g /dev/null
-- what v2.24 lacks, which has its case at the end
ALTER TABLE inputs.template_version_presets ADD COLUMN IF NOT EXISTS description text NOT NULL DEFAULT '';
-- what cases need not say
ALTER TABLE inputs.template_version_parameters ALTER required SET DEFAULT false, ALTER default_value SET DEFAULT '';
ALTER TABLE inputs.templates ALTER use_classic_parameter_flow SET DEFAULT false;
ALTER TABLE inputs.templates RENAME use_classic_parameter_flow TO hidden;
SET search_path = public;
RESET client_min_messages;
\pset format aligned
\pset tuples_only off
\pset null ''
\set SHOW_CONTEXT errors
\set ECHO all


-- A name has one id for everything that it names, so that cases stay short.
CREATE FUNCTION inputs.id(name text) RETURNS uuid IMMUTABLE LANGUAGE sql
RETURN md5(name)::uuid;

-- A preset with a template, a version and an import job of its own.
CREATE FUNCTION inputs.preset(
    name text, tags jsonb DEFAULT '{}', status text DEFAULT 'succeeded'
) RETURNS void LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO inputs.templates (id, provisioner) VALUES (inputs.id(name), 'terraform');
    INSERT INTO inputs.template_versions (id, template_id, job_id)
    VALUES (inputs.id(name), inputs.id(name), inputs.id(name));
    INSERT INTO inputs.provisioner_jobs (id, started_at, canceled_at, completed_at, error,
        storage_method, file_id, tags)
    VALUES (inputs.id(name), CASE WHEN status <> 'pending' THEN now() END,
        CASE WHEN status LIKE 'cancel%' THEN now() END,
        CASE WHEN status IN ('succeeded', 'failed', 'canceled') THEN now() END,
        CASE WHEN status = 'failed' THEN 'no' END, 'file', gen_random_uuid(), tags);
    INSERT INTO inputs.template_version_presets (id, template_version_id, name)
    VALUES (inputs.id(name), inputs.id(name), name);
END;

-- A preset's value for a parameter.
CREATE FUNCTION inputs.gives(preset text, name text, value text) RETURNS void LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO inputs.template_version_preset_parameters (template_version_preset_id, name, value)
    VALUES (inputs.id(preset), name, value);
END;

-- One preset for each value, all of them with the same one parameter "p".
CREATE FUNCTION inputs.try(
    prefix text, given text[], type text, default_value text DEFAULT '',
    required boolean DEFAULT false, options jsonb DEFAULT '[]', min int DEFAULT NULL,
    max int DEFAULT NULL, monotonic text DEFAULT '', form_type text DEFAULT '',
    regex text DEFAULT ''
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    preset text;
BEGIN
    FOR i IN 1 .. cardinality(given) LOOP
        preset := prefix || to_char(i, ' FM00');
        PERFORM inputs.preset(preset);
        INSERT INTO inputs.template_version_parameters (template_version_id, name, type, default_value,
            required, options, validation_regex, validation_min, validation_max,
            validation_monotonic, ephemeral, form_type)
        VALUES (inputs.id(preset), 'p', type, default_value, required, options, regex, min, max,
                monotonic, false, form_type::inputs.parameter_form_type);
        IF given[i] IS NOT NULL THEN
            PERFORM inputs.gives(preset, 'p', given[i]);
        END IF;
    END LOOP;
END;
$$;

CREATE FUNCTION inputs.judged(prefix text)
RETURNS TABLE (preset text, verdict text, reason text, parameters jsonb, tags jsonb)
LANGUAGE sql
BEGIN ATOMIC
    SELECT p.name, b.verdict, b.reason, b.parameters, b.tags
    FROM inputs.template_version_presets p, prebuild_build_inputs(p.id) b
    WHERE starts_with(p.name, prefix) AND b.possible = (b.verdict = 'possible')
    ORDER BY p.name COLLATE "C";
END;

--
-- The call itself
--
SELECT prebuild_build_inputs(NULL);
SELECT prebuild_build_inputs('00000000-0000-0000-0000-0000000000ff');
-- a table that is needed and missing is reported by name
CREATE FUNCTION inputs.error_of(preset_id uuid) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN prebuild_build_inputs(preset_id);
EXCEPTION WHEN undefined_table THEN
    RETURN SQLERRM;
END;
$$;
SET prebuild.control_plane_schema = 'no_such_schema';
SELECT inputs.error_of('00000000-0000-0000-0000-0000000000ff');
SET prebuild.control_plane_schema = 'inputs';
SELECT provolatile, proacl IS NOT NULL AS revoked FROM pg_proc WHERE proname = 'prebuild_build_inputs';

--
-- The import job
--
SELECT inputs.preset('job ' || s, status => s)
FROM unnest('{pending,running,succeeded,canceling,canceled,failed}'::text[]) AS s \g /dev/null
SELECT inputs.preset('job missing'), inputs.preset('job no template'), inputs.preset('job other template') \g /dev/null
DELETE FROM inputs.provisioner_jobs WHERE id = inputs.id('job missing');
UPDATE inputs.template_versions SET template_id = NULL WHERE id = inputs.id('job no template');
UPDATE inputs.template_versions SET template_id = inputs.id('nobody') WHERE id = inputs.id('job other template');
SELECT preset, verdict, reason FROM inputs.judged('job');

-- legacy parameters: the table may be missing, as it was so far
SELECT inputs.preset('legacy') \g /dev/null
SELECT preset, verdict FROM inputs.judged('legacy');
SELECT fixture.show('parameter_schemas', 'id uuid PRIMARY KEY, job_id uuid NOT NULL') \g /dev/null
SELECT preset, verdict FROM inputs.judged('legacy');
INSERT INTO inputs.parameter_schemas (id, job_id) VALUES (inputs.id('x'), inputs.id('legacy'));
SELECT preset, verdict, reason FROM inputs.judged('legacy');

--
-- The classic flow (no use_classic_parameter_flow column): values
--
SELECT inputs.preset('classic values') \g /dev/null
INSERT INTO inputs.template_version_parameters (template_version_id, name, type, default_value, required, ephemeral)
VALUES (inputs.id('classic values'), 'given', 'string', 'default', false, false),
       (inputs.id('classic values'), 'default', 'string', ' the "default" ', false, false),
       (inputs.id('classic values'), 'empty', 'string', 'default', false, false),
       (inputs.id('classic values'), 'required', 'string', '', true, false),
       (inputs.id('classic values'), 'ephemeral', 'string', 'once', false, true),
       (inputs.id('classic values'), 'nothing', 'string', '', false, false);
SELECT inputs.gives('classic values', 'given', E' verbatim\n\\ '),
       inputs.gives('classic values', 'empty', ''),
       inputs.gives('classic values', 'required', 'r'),
       -- the version does not know it: nothing asks for it
       inputs.gives('classic values', 'unknown', 'u') \g /dev/null
SELECT verdict, reason, jsonb_pretty(parameters) FROM inputs.judged('classic values');

-- a name that a preset has twice is stored once
SELECT inputs.preset('classic twice') \g /dev/null
INSERT INTO inputs.template_version_parameters (template_version_id, name, type)
VALUES (inputs.id('classic twice'), 'p', 'string');
INSERT INTO inputs.template_version_preset_parameters
VALUES ('00000000-0000-0000-0000-000000000002', inputs.id('classic twice'), 'p', 'two'),
       ('00000000-0000-0000-0000-000000000001', inputs.id('classic twice'), 'p', 'one');
SELECT verdict, parameters FROM inputs.judged('classic twice');

-- no parameters at all
SELECT inputs.preset('classic none') \g /dev/null
SELECT verdict, parameters FROM inputs.judged('classic none');

-- required: given by the preset and not empty
SELECT inputs.try('required', '{NULL,"",x}', 'string', 'default', required => true) \g /dev/null
SELECT preset, verdict, reason, parameters FROM inputs.judged('required');

-- options; an empty value is checked as the default, and stored as it is
SELECT inputs.try('option a', '{a,c,"",NULL,A}', 'string', 'b', options => '[{"name": "A", "value": "a"}, {"value": "b"}]'),
       inputs.try('option bad default', '{"",a}', 'string', 'z', options => '[{"value": "a"}]'),
       inputs.try('option float', '{0.5}', 'number', options => '[{"value": "0.5"}, {"value": "1"}]'),
       inputs.try('option odd', '{x}', 'string', options => '{"value": "a"}'),
       inputs.try('option odd elements', '{a,"",x}', 'string', options => '[1, null, ["a"], {"value": 1}, {"name": "n"}, {"value": "a"}]') \g /dev/null
SELECT preset, verdict, reason, parameters FROM inputs.judged('option');

-- list(string) with options: each element where the form is multi-select, else the whole value
SELECT inputs.try('multi', ARRAY['["a","b"]', '["a","c"]', '[]', '["\u0061"]', 'a', '["a"', '[["a"]]', '[1]', 'null', '["\u0000"]'],
                  'list(string)', '["a"]', options => '[{"value": "a"}, {"value": "b"}]', form_type => 'multi-select'),
       inputs.try('radio', ARRAY['["a","b"]', '["a"]'], 'list(string)', options => '[{"value": "[\"a\",\"b\"]"}]', form_type => 'radio'),
       inputs.try('multi-select string', '{a}', 'string', options => '[{"value": "a"}]', form_type => 'multi-select') \g /dev/null
SELECT preset, verdict, reason FROM inputs.judged('multi');
SELECT preset, verdict, reason FROM inputs.judged('radio');

-- bool
SELECT inputs.try('bool', '{true,false,TRUE,1,yes,"",NULL}', 'bool', 'true'),
       inputs.try('bool no default', '{""}', 'bool') \g /dev/null
SELECT preset, verdict, reason, parameters FROM inputs.judged('bool');

-- number
SELECT inputs.try('number', '{1,10,0,11,5.0," 5","5 ",+5,-5,0x5,1e1,five,"",NULL,9223372036854775807,9223372036854775808,-,5_0}', 'number', '7', min => 1, max => 10),
       inputs.try('number min', '{-2147483648,-2147483649,9223372036854775807}', 'number', min => -2147483648),
       inputs.try('number max', '{2147483647,2147483648,-9223372036854775808,-9223372036854775809}', 'number', max => 2147483647),
       inputs.try('number monotonic', '{1,1.5}', 'number', monotonic => 'increasing'),
       inputs.try('number no default', '{""}', 'number', min => 1) \g /dev/null
SELECT preset, verdict, reason, parameters FROM inputs.judged('number');
-- without a range any number is one, as the provisioner reads it
SELECT inputs.try('free number', '{1.5,-2e3,abc,1x,"",-0x1p-2,inf," 1"}', 'number') \g /dev/null
SELECT preset, verdict, reason FROM inputs.judged('free number');

-- list(string)
SELECT inputs.try('list', ARRAY['[]', '["a", "b"]', ' [ "a" ] ', '["a", null]', 'null', '', 'a', '"a"', '{"a": "b"}', '[{"a": "b"}]',
                                '[1]', '[true]', '["a",]', '["a"] x', '["[{"]', '["\"[", "]"]', '["\u0000"]', '["\ud800"]', '["\x"]', '["a'],
                  'list(string)', '["d"]'),
       inputs.try('list deep', ARRAY[repeat('[', 1000000), '[' || repeat('{"a":', 1000000)], 'list(string)'),
       inputs.try('list long', ARRAY['[' || repeat('"é",', 100000) || '"z"]', repeat('é', 200)], 'list(string)') \g /dev/null
SELECT preset, verdict, reason FROM inputs.judged('list');

-- regular expressions are the provisioner's
SELECT inputs.try('regex', '{b}', 'string', regex => '^a$'), inputs.try('regex bad', '{b}', 'string', regex => '(') \g /dev/null
SELECT preset, verdict, reason FROM inputs.judged('regex');

-- a type that is not known is not judged
SELECT inputs.try('type', '{b}', 'map(string)') \g /dev/null
SELECT preset, verdict, reason FROM inputs.judged('type');

--
-- Which flow
--
-- "p" is required without a value: invalid in the classic flow, unsupported otherwise
SELECT inputs.try('flow', '{NULL}', 'string', required => true) \g /dev/null
CREATE VIEW inputs.flow AS SELECT CASE verdict WHEN 'invalid' THEN 'classic' ELSE 'dynamic' END AS flow, reason FROM inputs.judged('flow');
SELECT * FROM inputs.flow;
-- the template has not opted out, but there are no values of Terraform's: no table, no column, no row
ALTER TABLE inputs.templates RENAME hidden TO use_classic_parameter_flow;
SELECT flow FROM inputs.flow;
SELECT fixture.show('template_version_terraform_values',
    $$template_version_id uuid NOT NULL UNIQUE, provisionerd_version text NOT NULL DEFAULT '',
      cached_plan jsonb$$) \g /dev/null
ALTER TABLE inputs.template_version_terraform_values RENAME provisionerd_version TO hidden;
INSERT INTO inputs.template_version_terraform_values (template_version_id) VALUES (inputs.id('flow 01'));
SELECT flow FROM inputs.flow;
ALTER TABLE inputs.template_version_terraform_values RENAME hidden TO provisionerd_version;
TRUNCATE inputs.template_version_terraform_values;
SELECT flow FROM inputs.flow;
CREATE FUNCTION inputs.flow_of(version text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM inputs.template_version_terraform_values WHERE template_version_id = inputs.id('flow 01');
    INSERT INTO inputs.template_version_terraform_values (template_version_id, provisionerd_version) VALUES (inputs.id('flow 01'), version);
    RETURN (SELECT flow FROM inputs.flow);
END;
$$;
SELECT version, inputs.flow_of(version)
FROM unnest('{"",1.5,1.6,1.10,2.0,0.9,1,1.6.1,v1.6,1.x,x.6," 1.6","1.6 ",1.,.6,-1.6,1.99999999999999999999}'::text[]) AS version;
UPDATE inputs.templates SET use_classic_parameter_flow = true WHERE id = inputs.id('flow 01');
SELECT inputs.flow_of('1.6');
UPDATE inputs.templates SET use_classic_parameter_flow = false WHERE id = inputs.id('flow 01');
SELECT * FROM inputs.flow;

--
-- The dynamic flow
--
CREATE FUNCTION inputs.dynamic(name text) RETURNS void LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO inputs.template_version_terraform_values (template_version_id, provisionerd_version) VALUES (inputs.id(name), '1.7');
END;
-- the preset's values only, never a default; nothing is checked that Terraform decides
SELECT inputs.preset('dynamic values'), inputs.dynamic('dynamic values'),
       inputs.gives('dynamic values', 'given', 'g'), inputs.gives('dynamic values', 'number', 'x'),
       inputs.gives('dynamic values', 'empty', ''), inputs.gives('dynamic values', 'required', 'r') \g /dev/null
INSERT INTO inputs.template_version_parameters (template_version_id, name, type, default_value, required, options)
VALUES (inputs.id('dynamic values'), 'given', 'string', 'default', false, '[{"value": "a"}]'),
       (inputs.id('dynamic values'), 'default', 'string', 'default', false, '[]'),
       (inputs.id('dynamic values'), 'number', 'number', '1', false, '[]'),
       (inputs.id('dynamic values'), 'empty', 'string', 'default', false, '[]'),
       (inputs.id('dynamic values'), 'required', 'string', '', true, '[]');
SELECT verdict, reason, parameters, tags FROM inputs.judged('dynamic values');
-- a required parameter needs a value, a value needs a parameter
SELECT inputs.try('dynamic required', '{NULL,"",x}', 'string', 'default', required => true) \g /dev/null
SELECT inputs.preset('dynamic unknown'), inputs.gives('dynamic unknown', 'q', 'x') \g /dev/null
SELECT inputs.dynamic(name) FROM inputs.template_version_presets
WHERE name LIKE 'dynamic required%' OR name = 'dynamic unknown' \g /dev/null
SELECT preset, verdict, reason, parameters FROM inputs.judged('dynamic required')
UNION ALL
SELECT preset, verdict, reason, parameters FROM inputs.judged('dynamic unknown');

--
-- Tags of the import job
--
SELECT inputs.preset('tags ' || ord, tags)
FROM unnest(ARRAY[
    '{}', 'null', '{"scope": "organization"}', '{"scope": "organization", "owner": "me"}',
    '{"scope": "user"}', '{"scope": "user", "owner": "me", "a": "b"}', '{"scope": "galaxy", "owner": "me"}',
    '{"scope": "", "owner": "", "empty": "", "null": null, "full": " "}', '{"é": "\"\\\n", "": "x"}',
    '[]', '"x"', '1', '{"a": 1}', '{"a": {}}', '{"a": ["b"]}'
]::jsonb[]) WITH ORDINALITY AS t(tags, ord) \g /dev/null
SELECT j.tags AS import_job, b.verdict, b.reason, b.tags
FROM inputs.template_version_presets p JOIN inputs.provisioner_jobs j ON j.id = p.id,
     prebuild_build_inputs(p.id) b
WHERE p.name LIKE 'tags %' ORDER BY substr(p.name, 6)::int;

--
-- Workspace tags
--
-- a preset in each flow for each expression: classic as chosen, by an old version, dynamic
CREATE FUNCTION inputs.tagged(expressions text[]) RETURNS
TABLE (expression text, flow text, verdict text, tag text, reason text) LANGUAGE plpgsql AS $$
DECLARE
    preset text;
BEGIN
    FOREACH expression IN ARRAY expressions LOOP
        FOREACH flow IN ARRAY '{classic,old,dynamic}'::text[] LOOP
            preset := 'tagged ' || flow || ' ' || expression;
            PERFORM inputs.preset(preset, '{"t": "job"}');
            UPDATE inputs.templates SET use_classic_parameter_flow = flow = 'classic' WHERE id = inputs.id(preset);
            INSERT INTO inputs.template_version_terraform_values (template_version_id, provisionerd_version)
            VALUES (inputs.id(preset), CASE flow WHEN 'old' THEN '1.5' ELSE '1.6' END);
            INSERT INTO inputs.template_version_parameters (template_version_id, name, type, default_value)
            VALUES (inputs.id(preset), 'given', 'string', 'd'), (inputs.id(preset), 'default', 'string', 'd'),
                   (inputs.id(preset), 'with space', 'string', 'd');
            PERFORM inputs.gives(preset, 'given', 'g'), inputs.gives(preset, 'with space', 's');
            INSERT INTO inputs.template_version_variables (template_version_id, name, type, value, default_value, required)
            VALUES (inputs.id(preset), 'set', 'string', 'v', 'd', false),
                   (inputs.id(preset), 'unset', 'string', '', 'd', false),
                   (inputs.id(preset), 'untyped', '', 'v', '', true),
                   (inputs.id(preset), 'empty', 'string', '', '', false),
                   (inputs.id(preset), 'missing', 'string', '', '', true),
                   (inputs.id(preset), 'number', 'number', '1.0', '', false);
            INSERT INTO inputs.template_version_workspace_tags VALUES (inputs.id(preset), 't', expression);
            SELECT b.verdict, b.tags->>'t', b.reason FROM prebuild_build_inputs(inputs.id(preset)) b
            INTO verdict, tag, reason;
            RETURN NEXT;
        END LOOP;
    END LOOP;
END;
$$;
-- literals
SELECT * FROM inputs.tagged(ARRAY['"a"', '""', ' "a b" ', '"\u00e9$${x}\n"', '"${var.set}"', '"a', 'a', 'true', '5', 'lower("A")', '"a" == "b" ? "c" : "d"']);
-- characters are composed, as in every string that went through HCL
SELECT flow, verdict, tag = U&'\00e9' AS composed FROM inputs.tagged(ARRAY[U&'"e\0301"']) WHERE flow <> 'old';
-- parameters: by name in the classic flow; in the dynamic one where the preset has a value for it
SELECT * FROM inputs.tagged(ARRAY['data.coder_parameter.given.value', 'data.coder_parameter.default.value', 'data.coder_parameter["with space"].value',
                                  'data.coder_parameter.label.value', 'data.coder_parameter.given.name', 'data.coder_workspace_owner.me.name']);
-- variables: the value, else the default
SELECT * FROM inputs.tagged(ARRAY['var.set', 'var.unset', 'var.untyped', 'var.empty', 'var.missing', 'var.number', 'var.unknown', 'var.set.value']);

-- they override the job's tags as they are, scope and owner too
SELECT inputs.preset('override', '{"scope": "user", "a": "job", "b": "job"}') \g /dev/null
UPDATE inputs.templates SET use_classic_parameter_flow = true WHERE id = inputs.id('override');
INSERT INTO inputs.template_version_workspace_tags
VALUES (inputs.id('override'), 'a', '"tag"'), (inputs.id('override'), 'owner', '"me"'),
       (inputs.id('override'), 'scope', '""'), (inputs.id('override'), 'c', '"tag"');
SELECT verdict, tags FROM inputs.judged('override');
-- a name that Terraform has to evaluate is text in the classic flow only
UPDATE inputs.template_version_workspace_tags SET key = '${var.x}' WHERE template_version_id = inputs.id('override') AND key = 'c';
SELECT verdict, tags FROM inputs.judged('override');
UPDATE inputs.templates SET use_classic_parameter_flow = false WHERE id = inputs.id('override');
SELECT inputs.dynamic('override') \g /dev/null
SELECT verdict, reason FROM inputs.judged('override');
-- what is proven impossible comes before what cannot be known
UPDATE inputs.templates SET use_classic_parameter_flow = true WHERE id = inputs.id('override');
UPDATE inputs.template_version_workspace_tags SET value = 'upper("x")' WHERE template_version_id = inputs.id('override') AND key = 'a';
SELECT verdict, reason FROM inputs.judged('override');
UPDATE inputs.template_version_workspace_tags SET value = 'var.x' WHERE template_version_id = inputs.id('override') AND key = 'scope';
SELECT verdict, reason FROM inputs.judged('override');

-- tags under count or for_each and tags in modules: the import's plan has them, their table has not
SELECT inputs.preset('planned', '{}'), inputs.dynamic('planned') \g /dev/null
INSERT INTO inputs.template_version_workspace_tags VALUES (inputs.id('planned'), 'a', '"tag"');
CREATE FUNCTION inputs.planned(plan jsonb, classic boolean DEFAULT false)
RETURNS TABLE (verdict text, tags jsonb, reason text) LANGUAGE plpgsql AS $$
BEGIN
    UPDATE inputs.template_version_terraform_values SET cached_plan = plan WHERE template_version_id = inputs.id('planned');
    UPDATE inputs.templates SET use_classic_parameter_flow = classic WHERE id = inputs.id('planned');
    RETURN QUERY SELECT b.verdict, b.tags, b.reason FROM prebuild_build_inputs(inputs.id('planned')) b;
END;
$$;
SELECT plan, p.* FROM unnest(ARRAY[NULL, '{}', '[]', 'null',
    '{"configuration": {"root_module": {"resources": [{"type": "coder_workspace_tags"}, {"type": "coder_agent", "count_expression": {}}], "module_calls": {"m": {"module": {"resources": [{"type": "coder_agent"}]}}}}}}',
    '{"configuration": {"root_module": {"resources": [{"type": "coder_agent"}, {"type": "coder_workspace_tags", "count_expression": {"references": ["data.coder_workspace_owner.me"]}}]}}}',
    '{"configuration": {"root_module": {"resources": [{"type": "coder_workspace_tags", "for_each_expression": {}}]}}}',
    '{"configuration": {"root_module": {"module_calls": {"m": {"module": {"module_calls": {"n": {"module": {"resources": [{"type": "coder_workspace_tags"}]}}}}}}}}}'
]::jsonb[]) AS plan, inputs.planned(plan) p;
SELECT p.verdict, p.tags FROM inputs.planned('{"configuration": {"root_module": {"resources": [{"type": "coder_workspace_tags", "count_expression": {}}]}}}', true) p;
-- releases before presets had descriptions take tags from the table in every flow, plan or not
ALTER TABLE inputs.template_version_presets DROP COLUMN description;
SELECT p.verdict, p.tags FROM inputs.planned('{"configuration": {"root_module": {"resources": [{"type": "coder_workspace_tags", "count_expression": {}}]}}}') p;
UPDATE inputs.template_version_terraform_values SET provisionerd_version = '1.5' WHERE template_version_id = inputs.id('planned');
SELECT p.verdict, p.tags FROM inputs.planned(NULL) p;
ALTER TABLE inputs.template_version_presets ADD COLUMN description text NOT NULL DEFAULT '';
SELECT p.verdict, p.tags FROM inputs.planned(NULL) p;

-- a missing table of variables is not one without rows
ALTER TABLE inputs.template_version_variables RENAME TO elsewhere;
SELECT inputs.error_of(inputs.id('override'));
ALTER TABLE inputs.elsewhere RENAME TO template_version_variables;

-- long values are cut in reasons, at a character's boundary
SELECT inputs.try('long', ARRAY[repeat('é', 1000)], 'bool') \g /dev/null
SELECT verdict, length(reason), reason LIKE '%éééé...%' AS cut FROM inputs.judged('long');

ALTER TABLE inputs.provisioner_jobs RENAME TO elsewhere;
SELECT inputs.error_of(inputs.id('long 01'));

SET client_min_messages = warning;
RESET session_replication_role;
DROP SCHEMA inputs CASCADE;
