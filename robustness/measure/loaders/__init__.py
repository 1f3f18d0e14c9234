"""Loaders of foreign models, one file for each kind of source."""
