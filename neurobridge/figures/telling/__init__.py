"""Words beside figures: findings, captions and alternative texts."""
