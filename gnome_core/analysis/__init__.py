"""Discovery metrics."""
