"""``python -m oidc_gate_mlflow``."""

import sys

from oidc_gate_mlflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
