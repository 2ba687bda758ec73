"""A cluster in memory: an API server, the Deployment controller and pods that do as told.

It stands in for Kubernetes where a test must choose the very write that fails; what a real API
server does is tested against a real one.
"""
