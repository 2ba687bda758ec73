"""HTTP/2 (RFC 9113) as a server speaks it, without sockets: bytes in, calls out, bytes out.

It has what gRPC needs and no more: no push, no priorities, no upgrade from HTTP/1.1. Own code
because a general library's state machine costs ten times what a small model's inference does; the
coding of headers (RFC 7541) is the library `hpack`'s. See docs/adr/0069.
"""
