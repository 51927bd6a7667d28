"""How agents learn: environments, rollouts, updates, whole lifetimes."""
