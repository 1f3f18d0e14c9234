"""The analysis: statistics, tables and figures from stored outcomes. Reads a run directory; loads no model or data."""
