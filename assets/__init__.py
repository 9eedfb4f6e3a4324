"""Asset factories: one contract in, the assets of its zones out."""
