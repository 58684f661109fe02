"""How much the service bears: `python -m benchmarks.service`."""
