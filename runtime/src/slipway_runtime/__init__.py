"""The Slipway runtime: fetches, verifies and serves one ONNX model."""

__version__ = "0.1.0"
