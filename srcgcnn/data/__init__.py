"""Crystals in, graph shards out: sources, element features, graphs, the store.

Reading a store needs numpy and safetensors only. `pyg.py` alone imports torch.
"""
