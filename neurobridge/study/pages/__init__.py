"""Report pages: results of any kind, or a folder of them, as one self-contained HTML page."""
