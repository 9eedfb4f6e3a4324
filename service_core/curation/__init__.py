"""Curation: canonical text becomes typed rows, judged one by one and together, and a verdict."""
