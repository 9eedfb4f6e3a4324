"""The code location: definitions, jobs and the command line."""
