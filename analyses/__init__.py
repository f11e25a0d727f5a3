"""Scripts that make the figures, tables and pages of the documentation."""
