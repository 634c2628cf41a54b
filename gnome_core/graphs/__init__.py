"""Neighbour lists and padded graph batches."""
