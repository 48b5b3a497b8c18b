"""States of SLURM jobs for submitit, which asks `sacct` alone: on a cluster without accounting `squeue` answers."""

import subprocess

from submitit.slurm.slurm import SlurmInfoWatcher

SECONDS_BETWEEN_CALLS = 60
NOT_LISTED = "NOT LISTED"  # squeue forgets a job some minutes after its end


class QueueWatcher(SlurmInfoWatcher):
    """Reads the states of all jobs of this user from `squeue`."""

    def __init__(self) -> None:
        super().__init__(delay_s=SECONDS_BETWEEN_CALLS)

    def _make_command(self) -> list[str] | None:
        if super()._make_command() is None:
            return None
        return ["squeue", "--me", "--array", "--all", "--states=all", "--format=%i|%T|%N"]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """The state of every registered job."""
        text = string if isinstance(string, str) else string.decode()
        listed = super().read_info("\n".join(["JobID|State|NodeList", *text.splitlines()[1:]]))
        return {job: {"JobID": job, "State": NOT_LISTED} for job in self._registered} | listed


def has_accounting() -> bool:
    """Whether this cluster has a database that `sacct` reads."""
    shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=False).stdout
    values = [line.partition("=")[2].strip() for line in shown.splitlines() if line.startswith("AccountingStorageType")]
    return not any(value in ("accounting_storage/none", "(null)") for value in values)
