"""One module a stage: its graph, and `run(job) -> Manifest` that runs it."""
