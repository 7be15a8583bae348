"""The blocks: one message-passing step each (docs/blocks.md)."""
