"""Where models come from: a reference is resolved once to something pinned, and the pinned thing fetched to files."""
