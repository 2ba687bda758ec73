"""FastAPI as commonly written for an ONNX model: a pydantic body, session.run in the route."""

from fastapi import FastAPI
from onnx_model import OnnxModel, as_lists
from pydantic import BaseModel

model = OnnxModel()


class Inputs(BaseModel):
    inputs: dict[str, list]


class Outputs(BaseModel):
    outputs: dict[str, list]


app = FastAPI()
async_app = FastAPI()


def run(body: Inputs) -> Outputs:
    return Outputs(outputs=as_lists(model.run(model.feeds(body.inputs))))


@app.get("/health")
@async_app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
def predict(body: Inputs) -> Outputs:
    return run(body)


@async_app.post("/predict")
async def predict_async(body: Inputs) -> Outputs:
    return run(body)
