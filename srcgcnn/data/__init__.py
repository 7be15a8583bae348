"""Structures in, graph shards out. Reading a store needs numpy and safetensors only."""
