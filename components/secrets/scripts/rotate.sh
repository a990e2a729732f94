# Prepares the next login in the database, when the one in use is old enough; that one goes on working.
set -eu
umask 077
rm -f "$WORK/next.json"
exec psql --no-psqlrc --file="$SQL"
