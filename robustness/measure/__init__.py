"""From a suite to outcomes: plan the cells, perturb the images once, evaluate every model at every λ, store."""
