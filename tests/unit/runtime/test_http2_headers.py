"""Header blocks: what is remembered of them never differs from what they mean."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from slipway_runtime.http2.errors import StreamFailedError
from slipway_runtime.http2.headers import HeaderDecoder, encode

HEAD = [(":method", "POST"), (":scheme", "http"), (":path", "/a/b")]
# The last one is no field of HTTP/2: a request with it fails, and yet changes the table.
NAMES = ("te", "x-a", "x-b", "x-c", "connection")
VALUES = ("trailers", "1", "a" * 60, "b" * 1500)
NOT_TE = [("te", value) for value in VALUES if value != "trailers"]


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=4),
            st.sampled_from((None, None, None, 0, 100, 4096)),
            st.booleans(),
        ),
        max_size=25,
    )
)
def test_a_block_means_the_same_whatever_was_remembered(
    requests: list[tuple[list[tuple[str, str]], int | None, bool]],
) -> None:
    encoder, plain, ours = Encoder(), Decoder(), HeaderDecoder()
    for fields, size, huffman in requests:
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode([*HEAD, *fields], huffman=huffman)
        expected: dict[bytes, bytes] = {}
        for name, value in plain.decode(block, raw=True):
            if not name.startswith(b":"):
                expected[name] = expected[name] + b"," + value if name in expected else value
        if any(name == "connection" or (name, value) in NOT_TE for name, value in fields):
            with pytest.raises(StreamFailedError):
                ours.request(block)
        else:
            found = ours.request(block)
            assert (found.path, found.fields) == (b"/a/b", expected)


@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 254, 255, 256, 5000, 70_000])
def test_what_we_encode_is_what_others_decode(length: int) -> None:
    fields = [(b"grpc-status", b"0"), (b"a" * max(1, length), b"b" * length)]
    assert list(Decoder(1 << 20).decode(encode(fields), raw=True)) == fields
