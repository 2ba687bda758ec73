"""Models, faulty servers and processes for the tests of slipway-runtime."""
