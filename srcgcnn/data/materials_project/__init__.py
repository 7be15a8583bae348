"""The Materials Project: queries, the client, snapshots on disk."""
