"""The development cluster: a real Kubernetes, an S3 server and images, on this machine alone."""
