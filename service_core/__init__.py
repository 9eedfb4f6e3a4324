"""The shared library of lakegate: contracts, validation, curation, verdicts and the gate.

It imports no Dagster, no Spark and no AWS client, so that the same code runs inside a Dagster
run, a Glue job and a Lambda function. Whatever talks to a service is handed in as one of the
collaborators named in `service_core.ports`.
"""

__version__ = "0.1.0"
