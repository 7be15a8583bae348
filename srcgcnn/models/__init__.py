"""The networks and their parameter counts. `config` and `counts` need no torch; `cgcnn` does."""
