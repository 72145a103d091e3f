"""Outlast: virtual machines that outlast their hosts."""

__version__ = "0.1.0"
