"""LitServe with an ONNX model."""

import os

import litserve
import numpy as np
import onnxruntime


class Onnx(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )

    def decode_request(self, request: dict) -> np.ndarray:
        return np.array([request["features"]], dtype=np.float32)

    def predict(self, row: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"x": row})[0]

    def encode_response(self, output: np.ndarray) -> dict:
        return {"prediction": float(output[0, 0])}


if __name__ == "__main__":
    server = litserve.LitServer(Onnx(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")
