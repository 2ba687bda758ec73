"""The Slipway runtime: fetches, verifies and serves one ONNX model."""
