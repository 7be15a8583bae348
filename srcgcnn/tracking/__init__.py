"""Result files to MLflow, with one writer: the driver.

MLflow reads these settings when it is imported, so they are set here, before any module of this folder imports it.
"""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # driver nodes often have no internet
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # its INFO lines come once per trial
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # so do its links
