"""Depth sweeps of shared recurrent crystal graph networks.

This file imports nothing: `srcgcnn --help` and a dry run must answer without loading torch, Ray or MLflow.
"""

__version__ = "0.1.0"
