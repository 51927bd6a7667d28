"""A plug-in of rl-discovery: an environment family with a suite, an objective, a level score."""
