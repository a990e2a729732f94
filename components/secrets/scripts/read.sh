# The database's login as Secrets Manager has it, and since when; into memory that the next containers share.
set -eu
umask 077
# Version 1 of the CLI would write times in another way.
printf '[default]\ncli_timestamp_format = iso8601\n' > "$WORK/aws.conf"
export AWS_CONFIG_FILE="$WORK/aws.conf"
aws secretsmanager get-secret-value --secret-id "$SECRET" --output json > "$WORK/current.json"
