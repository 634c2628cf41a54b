"""Beam pipelines, the round store and the `gnome` command line. The only package that imports Beam."""
