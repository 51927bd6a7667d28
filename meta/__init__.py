"""The outer loop: evolution of objectives, curricula, lanes on a mesh, and the trainer around them."""
