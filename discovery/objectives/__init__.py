"""Objectives: one file each, found by `registry`."""
