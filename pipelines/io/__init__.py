"""Beam transforms between committed files and Arrow batches."""
