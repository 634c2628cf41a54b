"""One module a kind of snapshot: Parquet, CIF folder, GNoME's release, Materials Project, OPTIMADE."""
