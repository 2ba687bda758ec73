"""What GitOps gets: a ModelDeployment, and digests set in YAML that people keep."""
