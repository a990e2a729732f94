"""Phase 3: credentials in AWS Secrets Manager, brought into the cluster and rotated."""

from components.secrets.managed_secrets import ManagedSecrets, ManagedSecretsArgs

__all__ = ["ManagedSecrets", "ManagedSecretsArgs"]
