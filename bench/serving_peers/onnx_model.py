"""The model named by MODEL on one thread, with nested lists in and out, as many write it."""

import os

import numpy as np
import onnxruntime

DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


class OnnxModel:
    """A session, and the dtypes of its inputs."""

    def __init__(self) -> None:
        """Load the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )
        self.dtypes = {given.name: DTYPES[given.type] for given in self.session.get_inputs()}
        self.outputs = [output.name for output in self.session.get_outputs()]

    def feeds(self, inputs: dict[str, list]) -> dict[str, np.ndarray]:
        """Return the inputs as arrays of their dtypes."""
        return {name: np.array(inputs[name], dtype) for name, dtype in self.dtypes.items()}

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs by name."""
        return dict(zip(self.outputs, self.session.run(None, feeds), strict=True))


def as_lists(outputs: dict[str, np.ndarray]) -> dict[str, list]:
    """Return outputs as JSON can hold them."""
    return {name: array.tolist() for name, array in outputs.items()}
