"""The process: kopf handlers, work queue, leader election, metrics."""
