"""Elemental references and the convex hull."""
