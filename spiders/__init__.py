"""Site knowledge: what a page says and where it leads. Knows no archive and no store."""
