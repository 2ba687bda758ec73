"""S3: objects that are written once and never overwritten."""
