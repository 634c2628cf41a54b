"""What `import gnome_core` offers a notebook: one call a task, for crystals of whatever kind the caller has."""
