"""The protocols: from bodies to arrays and back. Knows no HTTP server."""
