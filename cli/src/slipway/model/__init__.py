"""What an ONNX file is: its signature, its operators, and what would refuse it."""
