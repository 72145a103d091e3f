"""Whole machines with a distribution's own kernel, to try real file systems with (`make lab`)."""
