-- The database's roles as the Secret at $CREDENTIALS has them; safe to run again at any time.
--
-- Two logins take turns, so that a rotation prepares one while everybody still uses the other. Both act as their owner
-- role, to which all tables belong: which of the two made one makes no difference.
\set ON_ERROR_STOP on
\set QUIET on
\set VERBOSITY terse
-- Nothing that holds a password may reach the server's log.
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
SET client_min_messages = 'warning';

\set username `cat "$CREDENTIALS/username"`
\set password `cat "$CREDENTIALS/password"`

BEGIN;
SELECT pg_advisory_xact_lock(hashtext('credentials')) \g /dev/null

SELECT 'CREATE ROLE pyairtable NOLOGIN' WHERE to_regrole('pyairtable') IS NULL \gexec
SELECT 'CREATE ROLE admin LOGIN IN ROLE pyairtable' WHERE to_regrole('admin') IS NULL \gexec
SELECT 'CREATE ROLE admin_2 LOGIN IN ROLE pyairtable' WHERE to_regrole('admin_2') IS NULL \gexec
ALTER ROLE admin SET role = 'pyairtable';
ALTER ROLE admin_2 SET role = 'pyairtable';
SELECT format('ALTER DATABASE %I OWNER TO pyairtable', current_database()) \gexec

CREATE SCHEMA IF NOT EXISTS credentials;
GRANT USAGE ON SCHEMA credentials TO pyairtable;

-- The login that the Secret named when it was last applied: a rotation waits until this pod has seen the one before.
CREATE TABLE IF NOT EXISTS credentials.applied (username name NOT NULL, at timestamptz NOT NULL);
GRANT SELECT ON credentials.applied TO pyairtable;

CREATE OR REPLACE FUNCTION credentials.rotate(used name) RETURNS TABLE (username text, password text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET log_statement = 'none' SET log_min_error_statement = 'panic' AS $$
DECLARE
  applied name;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('credentials'));
  SELECT a.username INTO applied FROM credentials.applied AS a;
  IF used NOT IN ('admin', 'admin_2') THEN
    RAISE EXCEPTION 'there is no login % to rotate: the logins are admin and admin_2', used;
  ELSIF session_user IN ('admin', 'admin_2') AND session_user <> used THEN
    RAISE EXCEPTION 'the login in use is %, not %', session_user, used;
  ELSIF applied IS DISTINCT FROM used THEN
    RAISE EXCEPTION 'the last rotation has not arrived here yet: % was applied last, and % is in use', applied, used;
  END IF;
  username := CASE used WHEN 'admin' THEN 'admin_2' ELSE 'admin' END;
  -- An operator's command looks at the pods themselves, and must be able to take a login away from whoever has it.
  IF session_user <> 'postgres' AND EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.usename = username) THEN
    RAISE EXCEPTION 'somebody is still logged in as %, which this rotation would take away: restart them first', username;
  END IF;
  -- 244 bits from the generator that PostgreSQL draws its own secrets from.
  password := replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
  EXECUTE format('ALTER ROLE %I PASSWORD %L', username, password);
  RETURN NEXT;
END
$$;
REVOKE ALL ON FUNCTION credentials.rotate FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credentials.rotate TO pyairtable;

ALTER ROLE :"username" PASSWORD :'password';
DELETE FROM credentials.applied;
INSERT INTO credentials.applied VALUES (:'username', now());
COMMIT;
