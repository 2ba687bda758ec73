"""A pipeline on a data frame: numbers with gaps, and categories in words.

    slipway export loans:pipeline --range age=18:80 --range income=10000:90000
    slipway serve model.onnx --name loans

Each column is an input of its own, so that requests name them:

    curl localhost:8080/predict -d '{"records": [{"age": 41, "income": 52000, "job": "cook"}]}'
"""

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

random = np.random.default_rng(0)
frame = pd.DataFrame(
    {
        "age": random.integers(18, 80, 400).astype(float),
        "income": random.uniform(1e4, 9e4, 400),
        "job": random.choice(["clerk", "cook", "smith"], 400),
    }
)
repaid = (frame["income"] > frame["income"].median()) | (frame["job"] == "smith")
frame.loc[::9, "age"] = np.nan

pipeline = make_pipeline(
    ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
            ("categories", OneHotEncoder(handle_unknown="ignore"), ["job"]),
        ]
    ),
    GradientBoostingClassifier(n_estimators=20, random_state=0),
).fit(frame, repaid)
