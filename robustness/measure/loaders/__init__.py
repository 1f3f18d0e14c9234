"""Models from elsewhere, a file for each kind of place that they come from."""
