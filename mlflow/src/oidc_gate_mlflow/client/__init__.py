"""Tokens for MLflow's Python client: for people, and for jobs."""
