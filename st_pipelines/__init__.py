"""ServiceTitan's data in DuckDB, loaded by Dagster."""

__version__ = "0.1.0"
