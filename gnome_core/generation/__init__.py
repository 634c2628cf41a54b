"""Candidate generators: recipes, substitution, SAPS."""
