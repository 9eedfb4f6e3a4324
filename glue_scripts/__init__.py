"""Scripts that run on Spark. They import `service_core` and nothing else of the project."""
