"""The Slipway operator: reconciles ModelDeployments into verified, self-healing Deployments."""
