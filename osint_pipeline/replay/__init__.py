"""Shows captures again from the archive alone: an answering proxy, a browser that reaches nothing else, a check against live."""
