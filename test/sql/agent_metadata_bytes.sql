-- Reports whose values may be invalid text, in databases of several encodings. This file is ASCII: bytes
-- are given as such.
\set ECHO none
\i test/fixture/fixture.sql
DO $$ BEGIN PERFORM control_plane('cp_bytes'); PERFORM coder_only(); END $$;
\i test/fixture/metadata.sql
SELECT agents(1, 3) \g /dev/null

-- what the server itself refuses, as a whole, before the function is called
SELECT raises($$SELECT prebuild_agent_metadata_report(a(1), ARRAY['good', 'bad'],
	ARRAY['1', convert_from('\x61ff', 'UTF8')])$$, '22021', 'invalid byte sequence for encoding "UTF8"', NULL, 'bytes that are no text are no text');

-- as bytes: each value for itself
SELECT is((SELECT r::text FROM prebuild_agent_metadata_report_bytes(a(1), ARRAY['text', 'accent', 'nul', 'invalid', 'cut', 'empty', 'surrogate']::bytea[],
	ARRAY[' plain ', '\xc3a9', '\x610062', '\x6162ff', '\xe282', '', '\xeda080']::bytea[]) r), '(7,0,0)', 'every key of a report is taken');
SELECT * FROM shown(1);
SELECT is((SELECT r::text FROM prebuild_agent_metadata_report_bytes(a(2), ARRAY['both', 'error', 'value', 'text']::bytea[],
	ARRAY['\xff', ' v ', '\xff', 'v']::bytea[], ARRAY['\x00', '\x6500', ' why ', ' why ']::bytea[]) r), '(4,0,0)', 'errors too');
SELECT * FROM shown(2);
SELECT is((SELECT r::text FROM prebuild_agent_metadata_report_bytes(a(2), ARRAY['good', '\x6b00', '\xff', 'good']::bytea[], ARRAY['1', '2', '3', '4']::bytea[]) r),
	'(2,0,2)', 'a key that is no text is rejected');
-- lengths: 2,048 bytes that end in the middle of a character, alone, and before something that is no text
SELECT is((SELECT r::text FROM prebuild_agent_metadata_report_bytes(a(3), ARRAY['fits', 'long', 'spaces', 'worse']::bytea[],
	ARRAY[convert_to(repeat('x', 2046) || chr(233), 'UTF8'), convert_to(repeat('x', 2047) || chr(233) || 'yz', 'UTF8'),
		convert_to(repeat(' ', 3000) || 'x' || repeat(chr(160), 3000), 'UTF8'), convert_to(repeat('x', 2047) || chr(233), 'UTF8') || '\xff'::bytea]) r),
	'(4,0,0)', 'long values');
SELECT * FROM shown(3);
SELECT is((SELECT string_agg(shown::text, ' ') FROM shown(3)), (SELECT string_agg(shown::text, ' ') FROM shown(3)
	WHERE prebuild_agent_metadata_report(a(3), ARRAY['fits', 'long', 'spaces'], ARRAY[repeat('x', 2046) || chr(233), repeat('x', 2047) || chr(233) || 'yz',
		repeat(' ', 3000) || 'x' || repeat(chr(160), 3000)]) IS NOT NULL), 'text gives the same');

-- arguments
SELECT raises('SELECT prebuild_agent_metadata_report_bytes(a(1), ''{k}'', NULL)', '22004', '"metadata_values" must not be null', NULL, 'no values');
SELECT raises('SELECT prebuild_agent_metadata_report_bytes(a(1), ''{k}'', ''{v,NULL}'')', '22004', '"metadata_values" must not contain nulls', NULL, 'a NULL value');
SELECT raises('SELECT prebuild_agent_metadata_report_bytes(a(1), ''{k}'', ''{v,w}'')', '2202E', 'must be of the same length', NULL, 'more values than keys');
BEGIN READ ONLY;
SELECT raises('SELECT prebuild_agent_metadata_report_bytes(a(1), ''{k}'', ''{v}'')', '25006', 'prebuild_agent_metadata_report_bytes', NULL, 'a read-only transaction');
ROLLBACK;
CREATE ROLE prebuild_test_bytes;
GRANT USAGE ON SCHEMA cp_bytes, fixture TO prebuild_test_bytes;
SET ROLE prebuild_test_bytes;
SELECT raises('SELECT prebuild_agent_metadata_report_bytes(a(1), ''{k}'', ''{v}'')', '42501', 'permission denied for function', NULL, 'it needs EXECUTE');
RESET ROLE;
DROP OWNED BY prebuild_test_bytes;
DROP ROLE prebuild_test_bytes;
SET client_min_messages = error;
DROP SCHEMA cp_bytes CASCADE;
SELECT current_database() AS home \gset

-- SQL_ASCII: any bytes are text; UTF-8 is cut between its characters nevertheless, other bytes at the limit
CREATE DATABASE prebuild_test_ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;
\c prebuild_test_ascii
\i test/fixture/fixture.sql
DO $$ BEGIN PERFORM control_plane('cp_bytes'); PERFORM coder_only(); END $$;
\i test/fixture/metadata.sql
SELECT agents(1, 2) \g /dev/null
SELECT is((SELECT r::text FROM prebuild_agent_metadata_report(a(1), '{fits,two,three,four,latin}', ARRAY[
	convert_from(convert_to(repeat('x', 2046), 'SQL_ASCII') || '\xc3a9', 'SQL_ASCII'), convert_from(convert_to(repeat('x', 2047), 'SQL_ASCII') || '\xc3a9', 'SQL_ASCII'),
	convert_from(convert_to(repeat('x', 2046), 'SQL_ASCII') || '\xe282ac', 'SQL_ASCII'), convert_from(convert_to(repeat('x', 2045), 'SQL_ASCII') || '\xf09f9880', 'SQL_ASCII'),
	convert_from(convert_to(repeat('x', 2047), 'SQL_ASCII') || '\xe9e9', 'SQL_ASCII')]) r), '(5,0,0)', 'SQL_ASCII: text');
SELECT * FROM shown(1);
-- where the bytes are said to be UTF-8 they are
SELECT is((SELECT r::text FROM prebuild_agent_metadata_report_bytes(a(2), ARRAY['accent', 'latin', 'long', '\xff']::bytea[],
	ARRAY['\xc3a9', '\xe9', convert_to(repeat('x', 2047), 'SQL_ASCII') || '\xc3a9', '1']) r), '(3,0,1)', 'SQL_ASCII: bytes');
SELECT * FROM shown(2);
SET client_encoding = 'UTF8';
SELECT is((SELECT count(*) FROM (SELECT value FROM workspace_agent_metadata WHERE workspace_agent_id = a(2) OR key <> 'latin') x), 7,
	'a client of UTF-8 reads all that was UTF-8');
SELECT right(value, 3) FROM workspace_agent_metadata WHERE workspace_agent_id = a(2) OR key <> 'latin' ORDER BY workspace_agent_id, key;
\c :home
DROP DATABASE prebuild_test_ascii;

-- LATIN1: bytes are converted, where it has the character
CREATE DATABASE prebuild_test_latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;
\c prebuild_test_latin
\i test/fixture/fixture.sql
DO $$ BEGIN PERFORM control_plane('cp_bytes'); PERFORM coder_only(); END $$;
\i test/fixture/metadata.sql
SELECT agents(1) \g /dev/null
SELECT is((SELECT r::text FROM prebuild_agent_metadata_report_bytes(a(1), ARRAY['\xc3a9', 'euro', 'invalid', 'long', 'nul', 'plain', '\xe282ac']::bytea[],
	ARRAY['\x61c3a9', '\x61c3a9e282ac', '\x61ff', convert_to(repeat('x', 2047), 'SQL_ASCII') || '\xc3a9c3a9', '\x6100', ' plain ', 'v']::bytea[]) r), '(6,0,1)', 'LATIN1: bytes');
SELECT encode(convert_to(key, 'LATIN1'), 'escape'), bytes, ending, error FROM shown(1);
\c :home
DROP DATABASE prebuild_test_latin;
