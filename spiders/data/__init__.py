"""Data that the readers of pages come with."""
