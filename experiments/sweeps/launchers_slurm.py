"""Launches the rows of a sweep as SLURM jobs through submitit.

One job takes all stages of an entry, and is requeued when its time is over or it is preempted.
"""

import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from experiments.config.errors import ConfigError, DamagedFile
from experiments.config.parsing import read_mapping
from experiments.runs.processes import ProcessTree
from experiments.sweeps.entries import Entry, Stage
from tokenizer.files import write_text

ENDED = 128 + signal.SIGTERM  # exit status of stages that were asked to end
CANCELED = ("CANCEL", "NOT LISTED")  # beginnings of the states of a job that never ran; squeue forgets it soon
INSTALL = 'pip install "tessera-tokenizers[slurm]", or pip install submitit'


class QueuedStages:
    """The stages of an entry as one SLURM job. Pickled for submission, and again when the job is requeued."""

    def __init__(self, stages: list[Stage], log: Path) -> None:
        """
        Args:
            stages: stages of an entry.
            log: file that their output is appended to.
        """
        self.stages = stages
        self.log = log
        self.tree: ProcessTree | None = None

    def __call__(self) -> int:
        """Run the stages that are not done; the exit status of the first that fails."""
        # With these Lightning would take this job's only task for one of its own launches, and expect a task for every GPU.
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SUBMITIT_"))}
        for stage in self.stages:
            if stage.done:
                continue
            self.tree = ProcessTree(stage.command, self.log, environment)
            try:
                status = self.tree.process.wait()
            except BaseException:  # the job is canceled
                self.tree.interrupt(signal.SIGTERM)
                raise
            self.tree.poll()
            if status:
                return status
        return 0

    def checkpoint(self) -> Any:
        """Let the training save and exit; the same stages run when the job starts again."""
        from submitit.helpers import DelayedSubmission

        if self.tree is not None and self.tree.process.returncode is None:
            self.tree.interrupt(signal.SIGTERM)
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self.tree.process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(QueuedStages(self.stages, self.log))


class QueuedHandle:
    """A SLURM job. Its number is in a file as long as it is queued or runs, so that a restarted sweep finds it.

    Args:
        file: holds the number.
        job: submitit job; None until it is submitted.
    """

    def __init__(self, file: Path, job: Any = None) -> None:
        self.file = file
        self.job = job
        self.canceled = False

    def submitted(self, job: Any, folder: Path) -> None:
        """Watch a job, and store its number and its folder of submitit."""
        self.job = job
        write_text(self.file, json.dumps({"folder": str(folder), "job": job.job_id}) + "\n")

    def poll(self) -> int | None:
        """The exit status of its stages; 1 if the job failed or was canceled here, that of SIGTERM if `scancel` ended it."""
        if not self.job.done():
            return None
        if self.canceled:
            status = 1
        elif self.job.exception() is None:
            status = int(self.job.result())
            if status == ENDED and not self.job.watcher.is_done(self.job.job_id):  # it was put back into the queue, and runs again
                return None
        else:
            status = ENDED if self.job.state.upper().startswith(CANCELED) else 1
        self.file.unlink(missing_ok=True)
        return status

    def interrupt(self, number: int) -> None:
        """Cancel it: SLURM sends SIGTERM to all its processes."""
        self.canceled = True
        self.job.cancel()
        self.file.unlink(missing_ok=True)

    def kill(self) -> None:
        """Cancel it."""
        self.interrupt(signal.SIGKILL)


class QueueLauncher:
    """SLURM jobs in one array, of which at most `slots` run at the same time."""

    def __init__(self, cluster: str, folder: Path, slots: int, settings: Mapping[str, Any]) -> None:
        """
        Args:
            cluster: slurm, or local for the same on this machine.
            folder: submitit's files of each job.
            slots: number of jobs at the same time.
            settings: block `slurm` of conf/sweep.yaml.

        Raises:
            ConfigError: submitit is absent, or there is no SLURM here.
        """
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
            # A shell ignores SIGINT for its background jobs and their children, and submitit cancels local jobs by SIGINT.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            import submitit
        except ImportError as error:
            raise ConfigError("launcher", cluster, reason="needs submitit", advice=f"{INSTALL}; or leave `launcher` out") from error
        self.slots: int | None = slots if cluster == "local" else None  # SLURM limits the array itself
        self.job_class = submitit.LocalJob if cluster == "local" else submitit.SlurmJob
        self.new: list[tuple[QueuedHandle, QueuedStages]] = []
        try:
            self.executor = submitit.AutoExecutor(folder, cluster=cluster, slurm_max_num_timeout=settings["requeues"])
        except RuntimeError as error:
            advice = "start it where sbatch is, or leave `launcher` out"
            raise ConfigError("launcher", cluster, reason=str(error), advice=advice) from error
        if cluster == "slurm":
            from experiments.sweeps.slurm_states import QueueWatcher, has_accounting

            if not has_accounting():
                submitit.SlurmJob.watcher = QueueWatcher()
        names = {"partition": "slurm_partition", "memory": "slurm_mem", "gpus_per_node": "gpus_per_node"}
        shared = {key: settings[key] for key in ("timeout_min", "cpus_per_task")}
        chosen = {name: settings[key] for key, name in names.items() if settings[key]}  # a cluster without GPUs refuses to be asked for 0
        self.executor.update_parameters(
            name="tessera", nodes=1, tasks_per_node=1, slurm_array_parallelism=slots, slurm_signal_delay_s=120, **shared, **chosen
        )

    def start(self, entry: Entry, slot: int) -> QueuedHandle:
        """Submit an entry, or watch the unfinished job that an earlier sweep submitted for it.

        Raises:
            ConfigError: SLURM does not know the state of the earlier job.
            DamagedFile: the file of the earlier job names none.
        """
        file = entry.log.with_suffix(".job")
        earlier = self._earlier(file)
        handle = QueuedHandle(file, earlier)
        if earlier is None:
            self.new.append((handle, QueuedStages(entry.stages, entry.log.resolve())))
        return handle

    @contextmanager
    def together(self) -> Iterator[None]:
        """Around starts: everything started inside becomes one array."""
        self.new = []
        yield
        if self.new:
            from submitit.core.utils import FailedJobError

            try:
                with self.executor.batch():
                    jobs = [self.executor.submit(stages) for _, stages in self.new]
            except FailedJobError as error:  # of sbatch
                raise ConfigError("launcher", "slurm", reason=" ".join(str(error).split()), advice="or leave `launcher` out") from error
            for (handle, _), job in zip(self.new, jobs, strict=True):
                handle.submitted(job, self.executor.folder)

    def _earlier(self, file: Path) -> Any:
        """The job that a file names; None if there is none or it is finished."""
        if not file.is_file():
            return None
        stored = read_mapping(file)
        if not {"folder", "job"} <= stored.keys():
            raise DamagedFile(file, "it names no job; remove it if its job is finished")
        job: Any = self.job_class(stored["folder"], stored["job"])
        if job.done(force_check=True):
            return None
        if job.state.upper() == "UNKNOWN":
            reason = f"SLURM does not know the state of job {stored['job']}"
            raise ConfigError(str(file), reason=reason, advice="try again in a minute, or remove this file if the job is finished")
        return job
