"""gRPC on a second port: calls over our own HTTP/2, and the services that are offered.

Imported only where that port is on.
"""
