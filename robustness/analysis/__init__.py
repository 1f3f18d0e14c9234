"""From outcomes to statements: statistics, tables and figures. Reads a run directory; loads no model and no data."""
