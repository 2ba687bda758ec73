"""`python -m slipway_runtime` is `slipway-runtime`."""

from slipway_runtime.cli import main

main()
