"""A small PyTorch classifier with its scaler inside, so that callers send raw columns.

    slipway export fraud:model --input "features=FP32[batch,4]" --output probabilities

Weights come from a seed here; a real project loads them: slipway export fraud:Fraud
--state-dict weights.pt
"""

import torch

COLUMNS = ["age", "income", "term", "amount"]
LABELS = ["honest", "fraud"]


class Fraud(torch.nn.Module):
    """Scales, then classifies: features [batch, 4] FP32 -> probabilities [batch, 2] FP32."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([40.0, 30_000.0, 24.0, 5_000.0]))
        self.register_buffer("scale", torch.tensor([15.0, 20_000.0, 12.0, 4_000.0]))
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        scaled = (features - self.mean) / self.scale
        return torch.softmax(self.layers(scaled), dim=-1)


torch.manual_seed(7)
model = Fraud()
