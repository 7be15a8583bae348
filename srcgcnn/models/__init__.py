"""The networks. `config` and `counts` need no torch; `cgcnn` does."""
