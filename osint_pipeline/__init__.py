"""Captures what public sources publish into archives that a stranger can verify."""
