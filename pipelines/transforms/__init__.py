"""Beam transforms that stages are built from; each wraps a pure function of `gnome_core` or `dft`."""
