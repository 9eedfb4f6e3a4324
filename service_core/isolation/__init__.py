"""Isolation: a batch that kills or hangs its worker is halved until the file at fault is alone."""
