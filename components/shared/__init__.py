"""What components of several phases share: parts of manifests, policies, and the AWS identity of pods."""
