"""Agents: networks with their optimisers."""
