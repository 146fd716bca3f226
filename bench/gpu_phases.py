"""The phases of `bench.gpu_check`. Each writes figures, and laws that hold or do not, while it runs.

Speeds have no law: docs/gpu.md compares them with the ceilings that the phase `facts` measures.
"""

import json
import math
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bench.engine import Call, bare_rows_per_second, wait_for
from darkroom.app.engine.drawer import PlainDrawer, ReplayingDrawer
from darkroom.app.engine.engine import Engine, EngineLimits
from darkroom.app.engine.observer import EngineObserver
from darkroom.app.engine.replay import Called, Flight, Lookahead, recording_on
from darkroom.app.engine.request import Event, Finished, RowRequest, SampleRequest
from darkroom.app.engine.warmup import compile_ahead
from darkroom.model.checkpoint import load_checkpoint, load_tensors
from darkroom.model.config import EvaluationConfig, Recipe, SamplingConfig, load_recipe
from darkroom.model.datasets.materialise import content_digest
from darkroom.model.diffusion.denoiser import Denoiser, Network
from darkroom.model.diffusion.network import DenoisingNetwork, Purpose, build_network, make_denoiser
from darkroom.model.digest import digest_of
from darkroom.model.extension_points import SAMPLERS, samplers_with
from darkroom.model.images.pixels import to_pixels
from darkroom.model.machine.determinism import compute_deterministically
from darkroom.model.machine.threads import compute_alone
from darkroom.model.metrics.evaluation import FolderReferences, evaluate
from darkroom.model.planning.speed import measured_speed
from darkroom.model.sampling.draw import RowPlan, plan_row, sample
from darkroom.model.training import distributed
from darkroom.model.training.run import train
from darkroom.model.training.trainer import Trainer
from tests.model.small import CLASS_NAMES, awaken, random_dataset, small_model, small_recipe
from tests.model.training.memory_record import MemoryRecord

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "weights" / "fashion-mnist.safetensors"
CPU = torch.device("cpu")
STEPS = 20
"""Training steps that CPU and device make from the same start."""
LOSS_TOLERANCE = 0.01
"""Largest relative difference of their losses."""
VERSION = "checked"
LATENCY_REPEATS = 5
CEILING = "matrix_tflops_"
"""Begins the name of a figure of the phase `facts`, before a precision."""


@dataclass(frozen=True)
class Report:
    """What a phase has found. Its file is written after every line, because a phase may end at any time."""

    file: Path
    figures: dict[str, Any] = field(default_factory=dict)
    laws: dict[str, bool] = field(default_factory=dict)

    def figure(self, name: str, value: Any) -> None:
        """Write a measured value, or a fact."""
        self.figures[name] = value
        self._write()

    def law(self, name: str, holds: bool) -> None:
        """Write that a law holds, or does not."""
        self.laws[name] = holds
        self._write()

    def _write(self) -> None:
        self.file.write_text(json.dumps({"laws": self.laws, "figures": self.figures}))


@dataclass(frozen=True)
class Check:
    """Where a phase runs. out: the check's folder. tiny: small networks and few steps."""

    out: Path
    device: torch.device
    tiny: bool


def run(phase: str, out: Path, device: str, *, tiny: bool) -> Report:
    """Run a phase in this process; returns what it wrote to `out`/PHASE.json."""
    out.mkdir(parents=True, exist_ok=True)
    report = Report(out / f"{phase}.json")
    PHASES[phase](Check(out, torch.device(device), tiny), report)
    return report


def seconds_of(work: Callable[[], object], device: torch.device, least: float) -> float:
    """Return the seconds of a call: the mean over calls that take `least` seconds, after an untimed one."""
    work()
    wait_for(device)
    calls, began = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - began < least:
        for _ in range(5):
            work()
        wait_for(device)
        calls += 5
    return (time.perf_counter() - began) / calls


def facts(check: Check, report: Report) -> None:
    """Versions, and the device's ceilings: copies within its memory, and products of matrices."""
    device, least = check.device, 0.01 if check.tiny else 0.5
    report.figure("torch", torch.__version__)
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        report.figure("card", properties.name)
        report.figure("memory_bytes", properties.total_memory)
        report.figure("capability", f"{properties.major}.{properties.minor}")
        report.figure("cuda", torch.version.cuda)
        report.figure("cudnn", torch.backends.cudnn.version())
        report.figure("nccl", ".".join(map(str, torch.cuda.nccl.version())))
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        report.figure("driver", subprocess.run(query, check=True, capture_output=True, text=True).stdout.split()[0])
    numbers = 1 << (18 if check.tiny else 28)
    source = torch.ones(numbers, device=device)
    target = torch.empty_like(source)
    moved = 2 * source.numel() * source.element_size()  # read and written
    report.figure("copy_gb_per_second", moved / seconds_of(lambda: target.copy_(source), device, least) / 1e9)
    side = 128 if check.tiny else 8192
    for name, dtype, tf32 in (
        ("float32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("bfloat16", torch.bfloat16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        matrix = torch.ones(side, side, device=device, dtype=dtype)
        seconds = seconds_of(lambda matrix=matrix: matrix @ matrix, device, least)
        report.figure(f"{CEILING}{name}", 2 * side**3 / seconds / 1e12)
    torch.backends.cuda.matmul.allow_tf32 = False  # PyTorch's default


@contextmanager
def without_tf32() -> Iterator[None]:
    """Let convolutions of float32 compute in float32 during the block. PyTorch's default is TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def small(device: torch.device, purpose: Purpose = "draw") -> Denoiser:
    """Return a denoiser with a random network that has everything: classes, a snapshot and learned variances."""
    config = small_model(prediction="v", learned_variance=True)

    def network(seed: int) -> DenoisingNetwork:
        made = build_network(config, len(CLASS_NAMES), config.schedule.steps)
        awaken(made, seed)
        return made

    return make_denoiser(config, CLASS_NAMES, network(0), device, purpose, snapshot=(network(1), config))


def shipped(device: torch.device, purpose: Purpose = "draw") -> Denoiser:
    """Return the shipped model's denoiser."""
    return load_checkpoint(SHIPPED).denoiser(device, purpose)


def models(check: Check) -> dict[str, Callable[..., Denoiser]]:
    """Return the models that a phase draws with."""
    return {"small": small} if check.tiny else {"small": small, "shipped": shipped}


def every_setting(denoiser: Denoiser, steps: int) -> list[RowPlan]:
    """Return rows of every sampler, threshold, guide and variance that the model has, and one between two classes."""
    guides = ["unconditional"] if denoiser.snapshot is None else ["unconditional", "snapshot"]
    settings = [
        SamplingConfig(
            sampler=sampler,
            threshold=threshold,
            guide=guide,
            guidance=2.0,
            steps=steps,
            eta=0.5 if "eta" in SAMPLERS[sampler].takes else 0.0,
        )
        for sampler, threshold, guide in product(SAMPLERS, ("none", "static", "dynamic"), guides)
    ]
    variances = ["beta", "beta_tilde", *(["learned"] if denoiser.config.learned_variance else [])]
    settings += [
        SamplingConfig(sampler=sampler, variance=variance, steps=steps)
        for sampler, variance in product(samplers_with("variance"), variances)
    ]
    plans = [plan_row(denoiser, one, label=row % 3, seed=row, index=row) for row, one in enumerate(settings)]
    mixture = plan_row(denoiser, settings[0], label=0, seed=1, end_label=1, end_seed=2, mix=0.25)
    return [*plans, mixture]


def images(check: Check, report: Report) -> None:
    """Images of every setting against the CPU's, and rows of a mixed batch against the same rows alone.

    The CPU's images are read from `OUT/references/`, or drawn when they are not there.
    """
    steps = 2 if check.tiny else 10
    for name, model in models(check).items():
        expected = _reference(check, name, model, steps)
        drawing = model(check.device)
        denoiser = drawing.in_float32()
        plans = every_setting(denoiser, steps)
        with without_tf32():
            mixed = to_pixels(sample(denoiser, plans, batch_rows=len(plans)))
            alone = np.concatenate([to_pixels(sample(denoiser, [plan])) for plan in plans])
        report.figure(f"{name}: images", len(plans))
        report.figure(f"{name}: grey levels from the CPU in float32", _levels(mixed, expected))
        report.law(f"{name}: float32 is within one grey level of the CPU", _levels(mixed, expected) <= 1)
        report.figure(f"{name}: images that differ alone and in a mixed batch", _differing(mixed, alone))
        report.law(f"{name}: a row alone has the bytes of the row in a mixed batch", _differing(mixed, alone) == 0)
        default = to_pixels(sample(denoiser, plans, batch_rows=len(plans)))
        report.figure(f"{name}: grey levels from the CPU with PyTorch's defaults", _levels(default, expected))
        drawn = to_pixels(sample(drawing, plans, batch_rows=len(plans)))
        alone = np.concatenate([to_pixels(sample(drawing, [plan])) for plan in plans])
        report.figure(f"{name}: grey levels from the CPU in the precision of drawing", _levels(drawn, expected))
        report.figure(f"{name}: images that differ alone and mixed in that precision", _differing(drawn, alone))
        replayed = replayed_images(drawing, plans)
        report.figure(f"{name}: grey levels between replayed and plain steps", _levels(replayed, drawn))
        report.law(f"{name}: replayed steps are within one grey level of plain ones", _levels(replayed, drawn) <= 1)


class HostEvent:
    """Takes the place of torch.cuda.Event on a CPU, which computes a step before it returns."""

    def record(self) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, later: "HostEvent") -> float:
        return 1e3 * (later.at - self.at)


class Watched(ReplayingDrawer):
    """The engine's drawer on a GPU, which keeps what it measures. On a CPU it calls each step."""

    def __init__(self, denoiser: Denoiser) -> None:
        if denoiser.device.type == "cuda":
            super().__init__(denoiser, *recording_on(denoiser.device))
        else:
            super().__init__(denoiser, Called, Lookahead(HostEvent))
        self.flights: list[Flight] = []

    def timed(self, network_rows: int, seconds: float) -> Flight | None:
        found = super().timed(network_rows, seconds)
        self.flights += [] if found is None else [found]
        return found


@torch.inference_mode()
def replayed_images(denoiser: Denoiser, plans: list[RowPlan]) -> npt.NDArray[np.uint8]:
    """Draw the rows, which have equally many steps, by the engine's drawer."""
    drawer = Watched(denoiser)
    places = drawer.begin(plans)
    for position in range(plans[0].steps):
        drawer.advance(plans, [position] * len(plans), places)
    return to_pixels(torch.stack([place.image for place in places]))


def _reference(check: Check, name: str, model: Callable[[torch.device], Denoiser], steps: int) -> npt.NDArray[np.uint8]:
    file = check.out / "references" / f"{name}-{steps}.npy"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        denoiser = model(CPU)
        plans = every_setting(denoiser, steps)
        np.save(file, to_pixels(sample(denoiser, plans, batch_rows=len(plans))))
    return np.load(file, allow_pickle=False)


def _levels(found: npt.NDArray[np.uint8], expected: npt.NDArray[np.uint8]) -> int:
    """Return the largest difference in grey levels."""
    return int(np.abs(found.astype(int) - expected).max())


def _differing(found: npt.NDArray[np.uint8], expected: npt.NDArray[np.uint8]) -> int:
    """Return the number of images that are not equal."""
    return int((found != expected).reshape(len(found), -1).any(1).sum())


def deterministic(check: Check, report: Report) -> None:
    """What DARKROOM_DETERMINISTIC promises: equal bytes alone and in a mixed batch, and of two equal trainings."""
    compute_deterministically()
    for name, model in models(check).items():
        denoiser, again = model(check.device), model(check.device, "serve")
        plans = every_setting(denoiser, 2 if check.tiny else 10)
        mixed = to_pixels(sample(denoiser, plans, batch_rows=len(plans)))
        alone = np.concatenate([to_pixels(sample(again, [plan])) for plan in plans])
        report.figure(f"{name}: images that differ", _differing(mixed, alone))
        report.law(f"{name}: a row alone has the bytes of the row in a mixed batch", _differing(mixed, alone) == 0)
        replayed = _differing(mixed, replayed_images(again, plans))
        report.law(f"{name}: replayed steps have the bytes of plain ones", replayed == 0)
    ends = []
    for _ in range(2):
        trainer = Trainer(small_recipe(), random_dataset(), check.device)
        for _ in range(4 if check.tiny else 12):
            trainer.step()
        ends.append(trainer)
    report.law("two equal trainings have equal bytes", equal_ends(*ends))


def equal_ends(one: Trainer, other: Trainer) -> bool:
    """Return True when all tensors of both trainers' states have the same bytes."""
    first, second = (load_tensors(trainer.state(), source="the end") for trainer in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def without_dropout(**changes: Any) -> Recipe:
    """Return the small recipe of STEPS batches. Dropout draws other numbers on a GPU."""
    return small_recipe(**{"model__unet__dropout": 0.0, "training__total_images": STEPS * 8} | changes)


def the_cpus_noise(trainer: Trainer, size: int, own: slice, generator: torch.Generator) -> Tensor:
    """Return what a CPU draws as noise, in place of what a GPU draws, so that their losses can be compared."""
    return torch.randn((size, *trainer.dataset.images.shape[1:]), generator=generator)[own].to(trainer.device)


def training(check: Check, report: Report) -> None:
    """Training steps on the CPU against the device, eager and compiled; a resumed run against an undisturbed one."""
    dataset, steps = random_dataset(), 4 if check.tiny else STEPS

    def losses(device: torch.device, *, compiled: bool) -> list[float]:
        trainer = Trainer(without_dropout(training__compile=compiled), dataset, device)
        with mock.patch.object(Trainer, "_noise", the_cpus_noise):
            return [trainer.step()[0] for _ in range(steps)]

    expected = losses(CPU, compiled=False)
    for name, compiled in (("eager", False), ("compiled", True))[: 1 if check.tiny else 2]:
        with without_tf32():
            found = losses(check.device, compiled=compiled)
        worst = max(abs(a / b - 1.0) for a, b in zip(found, expected, strict=True))
        report.figure(f"{name}: largest relative difference of a loss from the CPU's", worst)
        report.law(f"{name}: losses are within {LOSS_TOLERANCE:.0%} of the CPU's", worst <= LOSS_TOLERANCE)
    recipe = without_dropout(model__unet__dropout=0.2)
    whole, first, second = (Trainer(recipe, dataset, check.device) for _ in range(3))
    for _ in range(steps):
        whole.step()
    for _ in range(steps // 2):
        first.step()
    second.resume(first.state(), source="the first half")
    for _ in range(steps // 2):
        second.step()
    report.law("a resumed run has the bytes of an undisturbed one", equal_ends(whole, second))


def graphs() -> int:
    """Return how many graphs PyTorch has compiled in this process."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


class Pauses(EngineObserver):
    """Keeps the longest time for which requests wait in a warm-up."""

    longest = 0.0

    def warm_up_step(self, seconds: float) -> None:
        self.longest = max(self.longest, seconds)


def engine(check: Check, report: Report) -> None:
    """The engine as the API runs it: warm-up, graphs, throughput, latency, and the share in which the device idles."""
    compute_alone()  # as the service does
    denoiser = small(check.device, "serve") if check.tiny else shipped(check.device, "serve")
    pauses, sizes, steps = Pauses(), (4, 8) if check.tiny else (64, 256), 3 if check.tiny else 50
    drawers: list[Watched] = []

    def drawer(denoiser: Denoiser) -> Watched:
        drawers.append(Watched(denoiser))
        return drawers[-1]

    running = Engine(
        EngineLimits(queue_rows=4096, queue_seconds=math.inf, batch_rows=max(sizes)), pauses, drawer=drawer
    )
    running.start()
    began = time.perf_counter()
    compile_ahead(denoiser, max(sizes))
    report.figure("seconds to compile beside requests", time.perf_counter() - began)
    known, began = graphs(), time.perf_counter()
    running.load(VERSION, denoiser).result()
    report.figure("warm-up seconds", time.perf_counter() - began)
    report.figure("longest pause of requests in the warm-up, seconds", pauses.longest)
    report.law("the engine's thread compiles nothing in the warm-up", graphs() == known)
    report.figure("network rows a step", limit := running.status().resident[VERSION])
    report.figure("graphs after the warm-up", known := graphs())
    report.figure("steps recorded in the warm-up", recorded := drawers[0].recordings)
    plain = SamplingConfig(sampler="ddim", steps=steps, guidance=1.0)
    guided = plain.model_copy(update={"guidance": 2.0})
    by_snapshot = guided.model_copy(update={"guide": "snapshot"})
    for count in (1, 3, *sizes):
        for sampling, sampler in product((plain, guided, by_snapshot), ("ddim", "ddpm")):
            one = sampling.model_copy(update={"sampler": sampler})
            drawn(running, [RowRequest(0, 0, row, one) for row in range(count)])
            drawn(running, [RowRequest(0, 0, row, one, end_class_index=1, mix=0.5) for row in range(count)])
    report.figure("graphs after requests of every kind", graphs())
    report.figure("steps recorded then", drawers[0].recordings)
    report.law("requests compile nothing after the warm-up", graphs() == known)
    report.law("requests record nothing after the warm-up", drawers[0].recordings == recorded)
    for count in sizes:
        seconds = drawn(running, [RowRequest(0, 0, row, plain) for row in range(count)])
        report.figure(f"network rows a second, {count} images", count * steps / seconds)
    alone = [drawn(running, [RowRequest(0, seed, 0, plain)]) for seed in range(LATENCY_REPEATS)]
    report.figure(f"milliseconds of 1 image in {steps} steps", 1e3 * statistics.median(alone))
    rows = 4 * limit
    drawers[0].flights.clear()
    seconds = drawn(running, [RowRequest(0, 0, row, plain) for row in range(rows)])
    flights = drawers[0].flights
    report.figure("milliseconds of the host in a full step", 1e3 * statistics.median(f.host_seconds for f in flights))
    report.figure("milliseconds of the device in one", 1e3 * statistics.median(f.device_seconds for f in flights))
    busy = sum(f.device_seconds for f in flights)
    report.figure("share of the time without a step on the device", 1.0 - busy / seconds)
    bare = bare_rows_per_second(denoiser, limit, 0.05 if check.tiny else 4.0)
    report.figure("network rows a second, bare loop", bare)
    report.figure("idle share of the device in full batches", 1.0 - rows * steps / seconds / bare)
    running.stop(0.0)


def drawn(running: Engine, rows: list[RowRequest]) -> float:
    """Draw the rows in one request; returns its seconds. Raises RuntimeError when it fails."""
    last: list[Event] = []
    call = Call()

    def sink(event: Event) -> None:
        last[:] = [event]
        call.sink(event)

    running.submit(SampleRequest(VERSION, tuple(rows)), sink)
    call.over.wait()
    if not isinstance(last[0], Finished):
        raise RuntimeError(f"the engine could not draw: {last[0]}")
    return call.seconds


def training_speed(check: Check, report: Report) -> None:
    """Training images a second of three networks by precision and compilation, and what they are of the ceiling."""
    ceilings = _ceilings(check)
    recipes = (
        {"small": small_recipe()}
        if check.tiny
        else {"shipped": _recipe("fashion-mnist"), "cifar10": _recipe("cifar10")}
    )
    if not check.tiny:
        cifar = recipes["cifar10"]
        levels = cifar.model.unet.model_copy(update={"multipliers": (1, 2, 2, 2), "attention_resolutions": (16,)})
        recipes["ddpm"] = cifar.model_copy(update={"model": cifar.model.model_copy(update={"unet": levels})})
    ways = (("float32", False), ("bfloat16", False), ("bfloat16", True))[: 1 if check.tiny else 3]
    with tempfile.TemporaryDirectory() as cache:
        speed = measured_speed(check.device, Path(cache))
        for name, recipe in recipes.items():
            flops = 3 * forward_flops(recipe)  # a backward pass costs two forward passes
            for precision, compiled in ways:
                changes = {"precision": precision, "compile": compiled, "devices": 1}
                one = recipe.model_copy(update={"training": recipe.training.model_copy(update=changes)})
                found = speed(one)
                way = f"{name}, {precision}, {'compiled' if compiled else 'eager'}"
                report.figure(f"{way}: images a second", found)
                report.figure(f"{way}: TFLOP/s", found * flops / 1e12)
                if precision in ceilings:
                    report.figure(f"{way}: share of the ceiling", found * flops / 1e12 / ceilings[precision])


def _ceilings(check: Check) -> dict[str, float]:
    """Return the TFLOP/s of matrix products by precision, which the phase `facts` has measured; empty without it."""
    file = check.out / "facts.json"
    measured: dict[str, Any] = json.loads(file.read_text())["figures"] if file.exists() else {}
    return {name.removeprefix(CEILING): value for name, value in measured.items() if name.startswith(CEILING)}


def _recipe(name: str) -> Recipe:
    return load_recipe(ROOT / "recipes" / f"{name}.yaml")


def forward_flops(recipe: Recipe) -> int:
    """Count the floating-point operations of one image's forward pass, which runs once on the CPU."""
    model = recipe.model
    network = build_network(model, 10, model.schedule.steps)
    x = torch.zeros(1, model.image_channels, model.image_size, model.image_size)
    ones = torch.ones(1, dtype=torch.long)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x, ones, ones)
    return counter.get_total_flops()


@dataclass
class Faulty:
    """A network that fails on demand. most_rows: out of memory above. lost: loses the device at the next call."""

    network: Network
    most_rows: int | None = None
    lost: bool = False

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        if self.most_rows is not None and len(x) > self.most_rows:
            torch.empty(1 << 50, dtype=torch.uint8, device=x.device)
        if self.lost:
            if x.device.type == "cpu":
                raise torch.AcceleratorError("CUDA error: device-side assert triggered")  # as CUDA says it
            _ = x[torch.full((1,), 1 << 40, device=x.device)]  # the kernel's assertion fails
        return self.network(x, t, labels)


def faults(check: Check, report: Report) -> None:
    """Out of memory while serving, and a failed assertion in a kernel, after which only a new process can go on."""
    denoiser, failed = small(check.device), threading.Event()
    faulty = denoiser.network = Faulty(denoiser.network)
    # A recorded step would not call the network again.
    running = Engine(EngineLimits(batch_rows=8), on_failure=failed.set, drawer=PlainDrawer)
    running.start()
    running.load(VERSION, denoiser).result()
    rows = [RowRequest(0, 0, row, SamplingConfig(steps=2)) for row in range(8)]
    faulty.most_rows = 2
    drawn(running, rows)
    report.law("a request is drawn in smaller batches when memory runs out", True)
    report.figure("network rows a step, then", limit := running.status().resident[VERSION])
    report.law("the batch limit falls", limit <= 2)
    faulty.most_rows, faulty.lost = None, True
    try:
        drawn(running, rows)
    except RuntimeError as error:
        report.figure("the answer when the device is lost", str(error))
    report.law("a lost device ends the engine, and its process is told", failed.wait(60.0))


def evaluation(check: Check, report: Report) -> None:
    """Seconds of an evaluation of the shipped model on random images."""
    denoiser = small(check.device) if check.tiny else shipped(check.device)
    count = 20 if check.tiny else 1000
    channels, side, _ = denoiser.image_shape
    made = random_dataset(count, channels, side)
    names = denoiser.class_names
    dataset = replace(made, class_names=names, digest=content_digest(made.images, made.labels, names))
    asked: dict[str, Any] = {"metrics": ("bits_per_dimension",), "bound_images": 4, "bound_times": 2}
    if not check.tiny:
        asked = {"metrics": ("fid", "kid", "bits_per_dimension"), "images": count, "batch_images": 250}
    config = EvaluationConfig(every_images=1, **asked)
    sampling = SamplingConfig(steps=2 if check.tiny else 50)
    with tempfile.TemporaryDirectory() as cache:
        for figure in evaluate(denoiser, VERSION, dataset, config, sampling, FolderReferences(Path(cache))):
            report.figure(f"{figure.metric}: value", figure.value)
            report.figure(f"{figure.metric}: seconds", figure.seconds)
            report.law(f"{figure.metric} is a number", bool(np.isfinite(figure.value)))


def ranks(check: Check, report: Report) -> None:
    """Two processes that train together. NCCL wants a device for each, so that one device gets one process."""
    count = 2 if check.device.type == "cpu" else min(2, torch.cuda.device_count())
    report.figure("processes", count)
    if count < 2:
        report.figure("said", "one device: two processes were not run, because NCCL refuses two on one device")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    own = ["-m", "bench.gpu_phases", str(check.out.resolve()), check.device.type]
    subprocess.run([sys.executable, *launcher, *own], cwd=ROOT, check=True)
    for name, value in json.loads((check.out / "ranks-first.json").read_text()).items():
        report.figure(name, value)
    report.law("all processes end with the same weights", report.figures["equal"])


def rank(out: Path, device: torch.device) -> None:
    """Train STEPS steps as one of the processes of `ranks`; the first one writes what it found."""
    with distributed.process_group(device) as own:
        count = distributed.world_size()
        trainer = Trainer(without_dropout(training__devices=count), random_dataset(), own)
        for _ in range(STEPS):
            trainer.step()
        number = int(digest_of(trainer.checkpoint()).removeprefix("sha256:")[:8], 16)
        shared = torch.ones(1 << 20, device=own)
        seconds = seconds_of(lambda: dist.all_reduce(shared), own, 0.0)
        total = distributed.sums([float(number)])[0]
        if distributed.rank() == 0:
            found = {
                "backend": str(dist.get_backend()),
                "equal": total == count * number,
                "milliseconds to sum 4 MiB": 1e3 * seconds,
            }
            (out / "ranks-first.json").write_text(json.dumps(found))


def job(check: Check, report: Report) -> None:
    """A train job through database, broker, worker and supervisor, against the same training in this process."""
    from tests.system.cluster import cluster
    from tests.system.test_jobs import last_weights

    recipe = small_recipe()
    made = random_dataset(40)
    dataset = replace(made, digest=content_digest(made.images, made.labels, made.class_names))
    record = MemoryRecord()
    train(recipe, dataset, record, device=check.device)
    weights, _ = record.checkpoints[recipe.training.total_images]
    device = check.device.type
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster(Path(folder), "worker", warm=False, DARKROOM_WORKER_DEVICE=device) as running,
    ):
        began = time.perf_counter()
        number = running.submit(recipe, running.register())
        done = running.wait_for(number, "succeeded", "failed")
        report.figure("seconds", time.perf_counter() - began)
        report.figure("failure", done.failure)
        report.law("the job succeeds", done.status == "succeeded")
        stored = last_weights(running, number) if done.status == "succeeded" else None
    report.law("the store holds the weights of the same training here", stored == digest_of(weights))


PHASES: dict[str, Callable[[Check, Report], None]] = {
    "facts": facts,
    "images": images,
    "deterministic": deterministic,
    "training": training,
    "engine": engine,
    "training_speed": training_speed,
    "faults": faults,
    "evaluation": evaluation,
    "ranks": ranks,
    "job": job,
}

if __name__ == "__main__":
    rank(Path(sys.argv[1]), torch.device(sys.argv[2]))
