"""Prompt sets as data: ordinary requests by stage, harmful ones, and the openers of refusals."""
