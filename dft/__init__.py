"""First-principles and stand-in evaluators: job records, engines, parsing. Imports gnome_core, never pipelines."""
