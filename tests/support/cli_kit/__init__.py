"""What the tests of the `slipway` command share."""
