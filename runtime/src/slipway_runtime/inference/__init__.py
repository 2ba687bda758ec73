"""Running the model: tensors, session, threads, queue. Knows no protocol and no server."""
