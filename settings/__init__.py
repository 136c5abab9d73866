"""Values the program is set up with, read once."""
