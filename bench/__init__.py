"""Measurements of the product on real parts: never tests, always with their spread."""
