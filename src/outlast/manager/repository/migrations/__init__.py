"""How an older schema becomes the present one, step by step; run by store.py at every start."""
