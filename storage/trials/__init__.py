"""Trials of an object store's guarantees: each puts canaries, looks, and says what it saw."""
