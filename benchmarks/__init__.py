"""Measurements of what the project claims: `python -m benchmarks.NAME [--json] [--only ...] [--stored]`."""
