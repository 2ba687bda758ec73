"""BentoML as its documentation shows a service: one worker, one synchronous method."""

import bentoml
from onnx_model import OnnxModel, as_lists


@bentoml.service(workers=1, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Onnx:
    """Answers one request at a time."""

    def __init__(self) -> None:
        """Load the model named by MODEL."""
        self.model = OnnxModel()

    @bentoml.api
    def predict(self, inputs: dict[str, list]) -> dict[str, dict[str, list]]:
        """Return the outputs by name."""
        return {"outputs": as_lists(self.model.run(self.model.feeds(inputs)))}
