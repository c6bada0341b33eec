"""Training steps: a loss, an optimizer and a model as pure compiled functions."""
