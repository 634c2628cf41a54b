"""The science of the flywheel: crystals, generation, models, stability. Never imports Beam, dft or pipelines."""
