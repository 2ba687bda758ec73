"""BentoML as its documentation shows a service: one worker, one synchronous method."""

import os

import bentoml
import numpy as np
import onnxruntime


@bentoml.service(workers=1, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Mlp:
    """Answers one row at a time."""

    def __init__(self) -> None:
        """Load the model named by MODEL on one thread."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )

    @bentoml.api
    def predict(self, features: list[float]) -> dict[str, float]:
        """Return the prediction for one row."""
        row = np.asarray(features, dtype=np.float32).reshape(1, -1)
        return {"prediction": float(self.session.run(None, {"x": row})[0][0, 0])}
