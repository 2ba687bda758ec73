"""One file for each command: its options, the call, and how the result is printed."""
