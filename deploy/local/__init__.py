"""The embedded AWS: moto in server mode, mended where a local run would be untrue."""
