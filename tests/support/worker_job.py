"""A worker job as a process, for tests without SLURM: it gives a silent head up after a second."""

WORKER = """
import sys
from srcgcnn.launch import head_watch
from srcgcnn.launch.slurm.calls import WorkerJob
head_watch.SILENT_S = head_watch.ASK_INTERVAL_S = 1.0
print(WorkerJob(sys.argv[1])())
"""
