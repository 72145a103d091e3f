"""Pictures: plain values in, SVG text out. Pure: no clock, no chance, nothing of the world.

Rules: colour only through classes, so that dark mode and printing need no second picture; every
state has a shape as well as a colour; `title` and `desc` say the same in words.
"""
