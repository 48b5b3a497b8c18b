"""The plan of a sweep: each row's state, size and length. Starts nothing and writes nothing."""

from rich.markup import escape
from rich.table import Table

from experiments.runs.devices import count_devices
from experiments.runs.terminal import console, print_line
from experiments.sweeps.display import COLORS
from experiments.sweeps.entries import Entry, Stage, without_duplicates
from experiments.sweeps.sizes import Size, size_of

UNITS = (("s", 1.0), ("min", 60.0), ("h", 3600.0), ("days", 86400.0))
HEADS = ("tokenizer M", "discriminator M", "memory GB", "updates x batch", "time")
EXPLANATION = "~: memory of parameters and layer outputs; time by a finished run of the same width, else operations of the networks"
OF_PROBES = "probes: time by a finished one, in proportion to the operations of the generators, else the number of operations"


def show_plan(entries: list[Entry], jobs: int, gpus: int) -> None:
    """Print the plan.

    Args:
        entries: entries of the sweep with their states.
        jobs: number of jobs at the same time.
        gpus: number of GPUs of one job.
    """
    table = Table()
    for title in ("row", "seed", "state"):
        table.add_column(title)
    for title in HEADS:
        table.add_column(title, justify="right")
    is_measured = any(len(entry.stages) > 1 for entry in entries)
    if is_measured:
        table.add_column("after the training")
    sizes: dict[str, Size] = {}
    for entry in entries:
        state = f"[{COLORS.get(entry.state, 'default')}]{entry.description}[/]"
        cells = [""] * len(HEADS)
        if entry.source is not None:
            name = entry.job.row.name
            if name not in sizes:  # the other seeds of a row have the same
                sizes[name] = size_of(entry.config, entry.source.image_size, count_devices(entry.config["trainer"], gpus))
            cells = _cells(entry, sizes[name], estimate(entry, entries))
        following = [", ".join(_described(stage, entries) for stage in entry.stages[1:])] if is_measured else []
        table.add_row(escape(entry.job.row.name), str(entry.job.seed), state, *cells, *following)
    console().print(table)
    print_line(EXPLANATION)
    if any(stage.operations for entry in entries for stage in entry.stages):
        print_line(OF_PROBES)
    own = without_duplicates(entries)
    if duplicates := sum(entry.folder is not None for entry in entries) - len(own):
        print_line(f"{duplicates} of them are the same run as another row, and run once")
    print_line(_rest(entries, jobs) if own else "no row can be run here")


def _cells(entry: Entry, size: Size, seconds: float | None) -> list[str]:
    other = f"{size.discriminator_parameters / 1e6:.3f}" if size.discriminator_parameters else "-"
    length = f"{entry.config['updates']} x {entry.config['batch_size']}"
    time = f"~{size.operations:.1e} operations" if seconds is None else _estimated(seconds, entry.stages[0])
    return [f"{size.parameters / 1e6:.3f}", other, f"~{size.memory / 1e9:.2f}", length, time]


def _described(stage: Stage, entries: list[Entry]) -> str:
    """An evaluation or a probe with its duration: recorded, estimated, or in operations."""
    seconds = estimate_of_probe(stage, entries)
    if seconds is not None:
        return f"{stage.title}: {_estimated(seconds, stage)}"
    if stage.done:
        return f"{stage.title}: done"
    return f"{stage.title}: ~{stage.operations:.1e}" if stage.operations else stage.title


def _estimated(seconds: float, stage: Stage) -> str:
    return f"{'~' * (not stage.done)}{duration(seconds)}"


def estimate(entry: Entry, entries: list[Entry]) -> float | None:
    """Seconds of a training: its own, or by number of images those of a finished one of the same width and image size; None without one."""
    own = entry.stages[0]
    if own.done and own.seconds is not None:
        return own.seconds
    for other in entries:
        if other.folder is None or not other.stages[0].done or not other.stages[0].seconds:
            continue
        if all(other.config[key] == entry.config[key] for key in ("width", "image_size")):
            return other.stages[0].seconds * _images(entry) / _images(other)
    return None


def estimate_of_probe(stage: Stage, entries: list[Entry]) -> float | None:
    """Seconds of a probe: its own, or those of a finished one, by operations; None without one, and for an evaluation."""
    if stage.done and stage.seconds is not None:
        return stage.seconds
    for other in (other for entry in entries for other in entry.stages[1:]):
        if stage.operations and other.operations and other.done and other.seconds:
            return other.seconds * stage.operations / other.operations
    return None


def _images(entry: Entry) -> int:
    return int(entry.config["updates"] * entry.config["batch_size"])


def _rest(entries: list[Entry], jobs: int) -> str:
    """How long the stages take that are not done, each once; evaluations are left out."""
    waiting = [entry for entry in without_duplicates(entries) if entry.state != "done"]
    trainings = {entry.stages[0].result: estimate(entry, entries) for entry in waiting if not entry.stages[0].done}
    probes = {stage.result: estimate_of_probe(stage, entries) for entry in waiting for stage in entry.unfinished if stage.operations}
    seconds = [*trainings.values(), *probes.values()]
    known = [each for each in seconds if each is not None]
    if not waiting:
        return "nothing is left to run"
    if len(known) < len(seconds) or not seconds:
        counts = [f"{len(stages)} {name}" for name, stages in (("runs", trainings), ("probes", probes)) if stages]
        return f"left to run: {', '.join(counts or ['evaluations'])}"
    together = f", ~{duration(sum(known) / min(jobs, len(waiting)))} with jobs={jobs}" if jobs > 1 else ""
    return f"left to run: ~{duration(sum(known))}{together}"


def duration(seconds: float) -> str:
    """In the largest unit of which there are at least two."""
    unit, size = next((unit for unit in reversed(UNITS) if seconds >= 2 * unit[1]), UNITS[0])
    return f"{seconds / size:.0f} {unit}" if seconds / size >= 10 else f"{seconds / size:.1f} {unit}"
