"""How near the estimate from first steps comes: `python benchmarks/estimate.py STORE --target NAME`.

Three networks are timed as `srcgcnn sweep --estimate` does, and then trained. Both in seconds of this process's
processor time, so that other work on the machine does not count; on one thread, on the CPU.
"""

import argparse
import time
from pathlib import Path

import torch

import srcgcnn.training.trainer
from srcgcnn.data.store import GraphStore
from srcgcnn.driver.timing import timed_epoch
from srcgcnn.models.config import ModelConfig
from srcgcnn.run.training_config import TrainingConfig
from srcgcnn.run.trial import DataRef, Seeds, TrialConfig

NETWORKS = (ModelConfig("srcgcnn", 3), ModelConfig("srcgcnn", 8), ModelConfig("cgcnn", 3))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--target", required=True)
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    srcgcnn.training.trainer.time.monotonic = time.process_time
    store = GraphStore(options.store)
    data = DataRef(store.manifest.data_hash, "store", options.target, store.manifest.target(options.target).unit)
    training = TrainingConfig(epochs=options.epochs, batch_size=32)
    for network in NETWORKS:
        trial = TrialConfig(network, training, Seeds(0, 0, 0), data)
        epoch_s, _ = timed_epoch([trial], store)
        trainer = srcgcnn.training.trainer.GroupTrainer([trial], store, device=torch.device("cpu"))
        trainer.train()
        expected_s, took_s = epoch_s * options.epochs, trainer.seconds
        print(f"{trial.label}: expected {expected_s:.2f} s, took {took_s:.2f} s: {expected_s / took_s:.2f}")


if __name__ == "__main__":
    main()
