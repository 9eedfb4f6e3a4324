"""The JSON Schema of the Open Data Contract Standard, version 3.1.0, unchanged, with its licence.

`NOTICE.md` says where it comes from.
"""
