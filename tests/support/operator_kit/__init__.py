"""Drives and watches the operator from outside: through the API server, as users and nodes do."""
