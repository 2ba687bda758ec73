"""MLflow models: read from their folder; what holds a pickle is loaded by a process of its own."""
