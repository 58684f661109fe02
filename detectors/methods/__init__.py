"""Detectors, one file each; a file holds the method and nothing else."""
