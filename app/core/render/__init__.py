"""A report, rendered: HTML for people, plain text for a terminal."""
