# Puts the next login, if there is one, where External Secrets fetches it; then says how old the one in use is.
set -eu
export AWS_CONFIG_FILE="$WORK/aws.conf"
if [ -s "$WORK/next.json" ]; then
  aws secretsmanager put-secret-value --secret-id "$SECRET" --secret-string "file://$WORK/next.json" \
    --query VersionId --output text
fi
aws cloudwatch put-metric-data --namespace "$METRIC_NAMESPACE" --metric-name "$METRIC" \
  --value "$(cat "$WORK/age")" --dimensions "Stack=$STACK"
