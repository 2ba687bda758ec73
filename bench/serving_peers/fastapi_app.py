"""FastAPI as commonly written for an ONNX model: a pydantic body, session.run in the route."""

import os

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(
    os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
)


class Features(BaseModel):
    features: list[float]


class Prediction(BaseModel):
    prediction: float


app = FastAPI()
async_app = FastAPI()


def run(body: Features) -> Prediction:
    row = np.array([body.features], dtype=np.float32)
    (output,) = session.run(None, {"x": row})
    return Prediction(prediction=float(output[0, 0]))


@app.get("/health")
@async_app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
def predict(body: Features) -> Prediction:
    return run(body)


@async_app.post("/predict")
async def predict_async(body: Features) -> Prediction:
    return run(body)
