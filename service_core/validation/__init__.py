"""Validation: each landed file opened once, and turned into canonical text or refused."""
