"""Development tools of Slipway: a real cluster, images and an S3 server on one machine."""
