"""A stand-in for VASP: its files in, its files out, energies from the embedded potential, failures on request."""
