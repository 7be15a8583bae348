"""The blocks: one message-passing step each (docs/models.md)."""
