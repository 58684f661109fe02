"""Contexts: what is put around a prompt to see whether it wakes something."""
