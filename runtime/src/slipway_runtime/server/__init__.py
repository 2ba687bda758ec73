"""The HTTP server: routes, start, readiness, drain."""
