"""The plan of a sweep: each row's state, size and length. Starts nothing and writes nothing."""

from rich.markup import escape
from rich.table import Table

from experiments.runs.devices import count_devices
from experiments.runs.terminal import console, print_line
from experiments.sweeps.display import COLORS
from experiments.sweeps.entries import Entry, without_duplicates
from experiments.sweeps.sizes import Size, size_of

UNITS = (("s", 1.0), ("min", 60.0), ("h", 3600.0), ("days", 86400.0))
HEADS = ("tokenizer M", "discriminator M", "memory GB", "updates x batch", "time")
EXPLANATION = "~: memory of parameters and layer outputs; time by a finished run of the same width, else operations of the networks"


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
    sizes: dict[str, Size] = {}
    for entry in entries:
        state = f"[{COLORS.get(entry.state, 'default')}]{entry.state}[/]"
        cells = [""] * len(HEADS)
        if entry.source is not None:
            name = entry.job.row.name
            if name not in sizes:  # the other seeds of a row have the same
                sizes[name] = size_of(entry.config, entry.source.image_size, count_devices(entry.config["trainer"], gpus))
            cells = _cells(entry, sizes[name], estimate(entry, entries))
        table.add_row(escape(entry.job.row.name), str(entry.job.seed), state, *cells)
    console().print(table)
    print_line(EXPLANATION)
    own = without_duplicates(entries)
    if duplicates := sum(entry.folder is not None for entry in entries) - len(own):
        print_line(f"{duplicates} of them are the same run as another row, and run once")
    print_line(_rest([entry for entry in own if entry.state != "done"], entries, jobs) if own else "no row can be run here")


def _cells(entry: Entry, size: Size, seconds: float | None) -> list[str]:
    other = f"{size.discriminator_parameters / 1e6:.3f}" if size.discriminator_parameters else "-"
    length = f"{entry.config['updates']} x {entry.config['batch_size']}"
    time = f"~{size.operations:.1e} operations" if seconds is None else f"{'~' * (entry.state != 'done')}{duration(seconds)}"
    return [f"{size.parameters / 1e6:.3f}", other, f"~{size.memory / 1e9:.2f}", length, time]


def estimate(entry: Entry, entries: list[Entry]) -> float | None:
    """Seconds of a run: its own, or those of a finished run of the same width and image size, by number of images; None without one."""
    if entry.state == "done" and entry.seconds is not None:
        return entry.seconds
    for other in entries:
        if other.state == "done" and other.seconds and all(other.config[key] == entry.config[key] for key in ("width", "image_size")):
            return other.seconds * _images(entry) / _images(other)
    return None


def _images(entry: Entry) -> int:
    return int(entry.config["updates"] * entry.config["batch_size"])


def _rest(waiting: list[Entry], entries: list[Entry], jobs: int) -> str:
    seconds = [estimate(entry, entries) for entry in waiting]
    known = [each for each in seconds if each is not None]
    if not waiting:
        return "nothing is left to run"
    if len(known) < len(waiting):
        return f"left to run: {len(waiting)} runs"
    together = f", ~{duration(sum(known) / min(jobs, len(waiting)))} with jobs={jobs}" if jobs > 1 else ""
    return f"left to run: ~{duration(sum(known))}{together}"


def duration(seconds: float) -> str:
    """In the largest unit of which there are at least two."""
    unit, size = next((unit for unit in reversed(UNITS) if seconds >= 2 * unit[1]), UNITS[0])
    return f"{seconds / size:.0f} {unit}" if seconds / size >= 10 else f"{seconds / size:.1f} {unit}"
