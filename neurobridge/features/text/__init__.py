"""Text encoders and captions."""
