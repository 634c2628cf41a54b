"""Energy, forces and stress from one gradient; batched relaxation."""
