"""`python -m srcgcnn` is the console script."""

from srcgcnn.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
