"""The Score: its schema, its null, its reduction to single numbers."""
