"""Structure matching and duplicate clusters."""
