"""Images and sounds as model input."""
