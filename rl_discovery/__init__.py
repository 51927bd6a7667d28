"""Discovered reinforcement-learning objectives."""
