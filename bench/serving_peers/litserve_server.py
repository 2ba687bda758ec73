"""LitServe with an ONNX model."""

import os

import litserve
import numpy as np
from onnx_model import OnnxModel, as_lists


class Onnx(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002
        self.model = OnnxModel()

    def decode_request(self, request: dict) -> dict[str, np.ndarray]:
        return self.model.feeds(request["inputs"])

    def predict(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self.model.run(feeds)

    def encode_response(self, outputs: dict[str, np.ndarray]) -> dict:
        return {"outputs": as_lists(outputs)}


if __name__ == "__main__":
    server = litserve.LitServer(Onnx(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")
