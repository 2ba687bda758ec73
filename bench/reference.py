"""What ONNX Runtime itself answers, and how fast it is: what servers are held against."""

from __future__ import annotations

import time

import numpy as np
import onnxruntime
from models import Feeds

RTOL, ATOL = 1e-4, 1e-5


def expected(content: bytes, feeds: Feeds) -> np.ndarray:
    """The one output of a model."""
    (output,) = _session(content).run(None, feeds)
    return output


def assert_equal(output: object, truth: np.ndarray) -> None:
    """Hold an output of any shape, as numbers or lists of them, to what is expected.

    Raises:
        AssertionError: they differ.
    """
    np.testing.assert_allclose(np.ravel(output), truth.ravel(), rtol=RTOL, atol=ATOL)  # type: ignore[arg-type]


def runs_per_second(content: bytes, feeds: Feeds, seconds: float = 1.0) -> float:
    """How many runs a second there are on one thread, with nothing around them."""
    session = _session(content)
    session.run(None, feeds)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        session.run(None, feeds)
        count += 1
    return count / (time.perf_counter() - began)


def _session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
