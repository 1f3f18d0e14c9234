"""Measurement: plan a suite's cells, perturb the images once, evaluate every model at every λ, store the outcomes."""
