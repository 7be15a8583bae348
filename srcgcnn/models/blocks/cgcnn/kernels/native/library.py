"""The loops over edges as machine code, for float32 on the CPU: `convolution.cpp`, compiled once per machine.

inductor fuses the same arithmetic into one loop, but stores [edges, 2F] between the gate and the sum over the atoms
that are seen, and compiles for seconds in every process. `convolution.cpp` adds within the first cache levels, needs
a second of the C++ compiler once, and milliseconds from then on.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from srcgcnn.data.graph import GAUSSIAN_COUNT, GAUSSIAN_STEP_ANGSTROM
from srcgcnn.files import write_bytes
from srcgcnn.models.blocks.cgcnn.kernels.sums import GateGradient, GaussianSums
from srcgcnn.models.code_cache import cache_folder

if TYPE_CHECKING:
    from torch import Tensor

    from srcgcnn.models.batch import GraphBatch
    from srcgcnn.models.blocks.cgcnn.kernels.sums import EdgeProjection

SOURCE = Path(__file__).with_name("convolution.cpp")
WINDOW = 9  # of the 41 Gaussians; the nearest one left out is below exp(-4.5^2) = 2e-9
BLOCKS = 32  # of whole crystals: as many threads can share a batch, whose sums do not depend on their number
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-fopenmp")

logger = logging.getLogger(__name__)


class _Edges(ctypes.Structure):
    _fields_ = (
        ("blocks", ctypes.c_int64),
        ("starts", ctypes.c_void_p),
        ("degree", ctypes.c_int64),
        ("neighbour", ctypes.c_void_p),
        ("window", ctypes.c_void_p),
        ("gaussian", ctypes.c_void_p),
    )


class _Parts(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in ("centre", "neighbour", "weight", "scale", "shift"))

    @classmethod
    def of(cls, *tensors: Tensor) -> _Parts:
        return cls(*(tensor.data_ptr() for tensor in tensors))


@dataclass(frozen=True)
class NativeEdges:
    """The edges of one member, as `convolution.cpp` reads them, and what a convolution does with them.

        z_ij = c_i + n_j + u_ij            (centre, neighbour and edge part of the Linear)
        y_ij = scale * z_ij + shift        (BatchNorm, folded)
        m_i  = sum_j sigmoid(y first half) * softplus(y second half)

    Attributes:
        neighbour: int32 [N, K], -1 for masked edges.
        window: int32 [N, K], number of the first of the WINDOW Gaussians that count.
        gaussian: float32 [N, K, WINDOW].
        starts: int64 [BLOCKS + 1], first atom of each block of crystals.
        out_degree: float32 [N, 1], real edges that an atom looks along.
        in_degree: float32 [N, 1], real edges that look at an atom.
        count: real edges.
        sums: moments of the Gaussians.
    """

    library: ctypes.CDLL
    neighbour: Tensor
    window: Tensor
    gaussian: Tensor
    starts: Tensor
    out_degree: Tensor
    in_degree: Tensor
    count: float
    sums: GaussianSums

    @classmethod
    def of_member(cls, batch: GraphBatch, member: int, library: ctypes.CDLL) -> NativeEdges:
        """Take one member out of a batch."""
        distances, neighbour = batch.distances[member], batch.neighbours[member].int()
        atoms, degree = neighbour.shape
        window, gaussian = torch.empty_like(neighbour), torch.empty(atoms, degree, WINDOW)
        if batch.edge_mask is None:
            out_degree = torch.full((atoms, 1), float(degree))
        else:
            mask = batch.edge_mask[member]
            neighbour = torch.where(mask, neighbour, -1)
            out_degree = mask.sum(dim=1, keepdim=True).float()
        starts = block_starts(batch.atom_counts[member], atoms)
        edges = _Edges(len(starts) - 1, *(_place(starts), degree), *map(_place, (neighbour, window, gaussian)))
        in_degree = torch.empty(atoms, 1)
        centre, neighbours = torch.empty(atoms, GAUSSIAN_COUNT), torch.empty(atoms, GAUSSIAN_COUNT)
        products = torch.empty(BLOCKS, GAUSSIAN_COUNT, GAUSSIAN_COUNT)
        steps = distances / GAUSSIAN_STEP_ANGSTROM
        library.expand_distances(ctypes.byref(edges), *map(_place, (steps, centre, neighbours, in_degree, products)))
        count = float(out_degree.sum())
        sums = GaussianSums.centred(centre, neighbours, products.sum(dim=0), out_degree, in_degree, count)
        return cls(library, neighbour, window, gaussian, starts, out_degree, in_degree, count, sums)

    @functools.cached_property
    def _edges(self) -> _Edges:
        arrays = map(_place, (self.neighbour, self.window, self.gaussian))
        return _Edges(BLOCKS, _place(self.starts), self.neighbour.shape[1], *arrays)

    def edge_sums(self, centre: Tensor, neighbour: Tensor, projection: EdgeProjection) -> tuple[Tensor, Tensor, Tensor]:
        """Sum z over the edges of an atom and over those that look at it, [N, 2F] each, and z^2 - u^2 over all [2F]."""
        seen, seen_by, squares = (
            torch.empty_like(centre),
            torch.empty_like(centre),
            centre.new_empty(BLOCKS, centre.shape[1]),
        )
        inputs = (centre, neighbour, projection.centre, projection.neighbour, self.out_degree, self.in_degree)
        self.library.edge_sums(ctypes.byref(self._edges), *map(_place, (*inputs, seen, seen_by, squares)))
        return seen, seen_by, squares.sum(dim=0)

    def gate_sum(self, centre: Tensor, neighbour: Tensor, weight: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Return m [N, F] for c and n [N, 2F], the Gaussians' weight [41, 2F], scale and shift [2F]."""
        summed = centre.new_empty(len(centre), centre.shape[1] // 2)
        parts = _Parts.of(centre, neighbour, weight, scale, shift)
        self.library.gate_sum(ctypes.byref(self._edges), ctypes.byref(parts), _place(summed))
        return summed

    def gate_gradient(
        self, centre: Tensor, neighbour: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, upstream: Tensor
    ) -> GateGradient:
        """Recompute the gate and differentiate it; `upstream` is the gradient of m [N, F]."""
        of_centre, of_neighbour = torch.empty_like(centre), torch.empty_like(centre)
        of_weight, moments = centre.new_empty(BLOCKS, *weight.shape), centre.new_empty(BLOCKS, 2, centre.shape[1])
        parts = _Parts.of(centre, neighbour, weight, scale, shift)
        outputs = map(_place, (upstream, of_centre, of_neighbour, of_weight, moments))
        self.library.gate_gradient(ctypes.byref(self._edges), ctypes.byref(parts), *outputs)
        total, product = moments.sum(dim=0)
        return GateGradient(of_centre, of_neighbour, of_weight.sum(dim=0), total, product)


def _place(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def block_starts(atom_counts: Tensor, atoms: int) -> Tensor:
    """Cut a batch into BLOCKS runs of whole crystals with about as many atoms each: first atoms, int64 [BLOCKS + 1]."""
    starts = torch.cat([atom_counts.new_zeros(1), atom_counts.cumsum(0)]).long()
    ideal = torch.arange(BLOCKS) * int(starts[-1]) // BLOCKS
    blocks = starts[torch.searchsorted(starts, ideal)]
    return torch.cat([blocks, torch.tensor([atoms])])  # padding atoms belong to the last one


# --- compilation ---


@functools.cache
def native_library(hidden: int) -> ctypes.CDLL | None:
    """Load the loops for F = `hidden` channels, compiled on first use; None, with one warning, if that fails."""
    if hidden % 16 or platform.system() != "Linux":
        return None
    try:
        return _load(_compiled(hidden))
    except (OSError, RuntimeError) as error:
        logger.warning("no compiled convolution on this machine (%s): training takes about three times as long", error)
        return None


def _compiled(hidden: int) -> Path:
    """Return the shared library for this source, compiler and processor."""
    name = os.environ.get("CXX") or "g++"
    compiler = shutil.which(name)
    if compiler is None:
        raise FileNotFoundError(f"{name} not found; install g++ or set CXX")
    identity = [SOURCE.read_text(encoding="utf-8"), hidden, FLAGS, compiler, _processor()]
    path = cache_folder() / f"convolution-{sha256(repr(identity).encode()).hexdigest()[:16]}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder:
            compiled, linked = Path(folder, "convolution.o"), Path(folder, "convolution.so")
            _run([compiler, *FLAGS, f"-DWIDTH={hidden}", "-c", str(SOURCE), "-o", str(compiled)])
            # not linked with OpenMP: its functions are those of the library that torch has loaded, and its threads
            _run([compiler, "-shared", str(compiled), "-o", str(linked)])
            write_bytes(path, linked.read_bytes(), space_patience_s=0.0)
    return path


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip().splitlines()[0] if done.stderr else done.returncode}")


def _processor() -> str:
    """What -march=native looks at: nodes of one cluster may share a cache folder and differ."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}))


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    for name, arguments in (("edge_sums", 9), ("expand_distances", 5), ("gate_sum", 2), ("gate_gradient", 6)):
        function = getattr(library, name)
        function.argtypes, function.restype = [ctypes.c_void_p] * (arguments + 1), None
    return library
