"""``import-permissions``: users, groups and permissions of mlflow-oidc-auth become MLflow's own."""
