"""ONNX from a framework's model: the file, and proof that it still computes the same."""
