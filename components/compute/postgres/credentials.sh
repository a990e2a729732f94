# Keeps PostgreSQL's logins as the mounted Secret has them: the image sets a password only when it makes the database.
# The kubelet brings a changed Secret here within two minutes, or at once when the pod's annotations change.
trap 'exit 0' TERM INT

digest() { cat "$CREDENTIALS/username" "$CREDENTIALS/password" | sha256sum; }

applied=
while :; do
  now=$(digest)
  if [ "$now" != "$applied" ] && pg_isready --quiet; then
    username=$(cat "$CREDENTIALS/username")
    [ -s "$CREDENTIALS/password" ] || username=
    case $username in
      admin | admin_2)
        if psql --no-psqlrc --file="$ROLES"; then
          applied=$now
          echo "the login $username is now as the Secret has it"
        fi
        ;;
      '')
        applied=$now
        echo "the Secret lacks a value: nothing is changed, and the last login goes on working; put both values back" >&2
        ;;
      *)
        applied=$now
        echo "the Secret names the login '$username', and there are admin and admin_2 only: nothing is changed; name one of them" >&2
        ;;
    esac
  fi
  sleep 1 &
  wait $!
done
