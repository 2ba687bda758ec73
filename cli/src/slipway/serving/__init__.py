"""A served model: the runtime on this machine, and requests to it or to any other."""
