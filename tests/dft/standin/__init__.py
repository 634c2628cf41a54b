"""A stand-in for VASP: its files in, its files out, energies from CHGNet, failures on request."""
