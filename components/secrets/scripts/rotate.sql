-- The days since the last rotation into $WORK/age and, if those are too many, the next login into $WORK/next.json.
\set ON_ERROR_STOP on
\set QUIET on
\set VERBOSITY terse
\pset tuples_only on
\pset format unaligned
\getenv days ROTATION_DAYS
\getenv host PGHOST
\getenv port PGPORT
\set answer `cat "$WORK/current.json"`

-- An error of PostgreSQL's would be logged with its statement, and this one holds a password.
SELECT NOT pg_input_is_valid(:'answer'::jsonb ->> 'SecretString', 'jsonb') AS malformed \gset
\if :malformed
  DO $$ BEGIN RAISE EXCEPTION 'the secret in Secrets Manager is not JSON: put back its last version'; END $$;
\endif

SELECT (:'answer'::jsonb ->> 'SecretString')::jsonb AS current,
       round(extract(epoch FROM now() - (:'answer'::jsonb ->> 'CreatedDate')::timestamptz) / 86400) AS age \gset
SELECT :age >= :days AS due, :'current'::jsonb ->> 'username' AS username \gset

-- Without a report the alarm goes off: a rotation that does not arrive is one that failed.
SELECT :'username' <> session_user AS late \gset
\if :late
  DO $$ BEGIN RAISE EXCEPTION 'the last rotation has not arrived in the cluster: see runbook secrets'; END $$;
\endif

\if :due
  \set age 0
  -- By itself: where it fails, the server's log has its statement, and that names the login alone.
  SELECT to_jsonb(next) AS next FROM credentials.rotate(:'username') AS next \gset
  -- What somebody's own update may have left out comes back with it.
  \o | cat > "$WORK/next.json"
  SELECT jsonb_build_object('host', :'host', 'port', :'port', 'database', current_database())
         || :'current'::jsonb || :'next'::jsonb;
  \o
\endif
\o | cat > "$WORK/age"
SELECT :age;
\o
