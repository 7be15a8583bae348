"""`python -m srcgcnn` is the console script."""

from srcgcnn.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
