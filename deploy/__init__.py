"""Packaging, infrastructure and the embedded AWS."""
