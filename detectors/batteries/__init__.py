"""Probe batteries as data: short questions with contrasted continuations, for shifts that need no trigger."""
