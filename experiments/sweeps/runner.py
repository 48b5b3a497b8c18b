"""Runs the entries of a sweep: starts those that are not done, tracks their states, and passes signals on."""

import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from experiments.runs.processes import SECONDS_BETWEEN_LOOKS, SIGNALS, end_requests, how_it_ended
from experiments.sweeps.entries import Entry, without_duplicates
from experiments.sweeps.launchers import Handle, Launcher

log = logging.getLogger(__name__)

# Exit statuses of a training that was asked to end, before or after it could save.
ENDED_BY_SIGNAL = {sign * number + offset for number in (*SIGNALS, signal.SIGUSR1) for sign, offset in ((1, 128), (-1, 0))}


@dataclass
class _Started:
    entry: Entry
    handle: Handle
    slot: int
    since: float


class Runner:
    """Runs entries through a launcher until nothing is left.

    An entry that another process holds, or with a stage that a started one has yet to finish, is waited for. On SIGINT or SIGTERM the
    signal is passed to the running stages, of which trainings save and exit, and nothing more is started; a SIGINT after that kills
    everything.
    """

    def __init__(self, entries: list[Entry], launcher: Launcher, changed: Callable[[], None]) -> None:
        """
        Args:
            entries: all entries with their states; those with the same stages are run once, and so is every stage that several have.
            launcher: starts them.
            changed: called after every poll, to show the states.
        """
        self.waiting = [entry for entry in without_duplicates(entries) if entry.state != "done"]
        self.launcher = launcher
        self.changed = changed
        self.started: list[_Started] = []
        self.passed_on = 0

    def run(self) -> int:
        """Run them.

        Returns:
            0, or 128 plus the number of the received signal.
        """
        with end_requests() as received:
            while self.started or (self.waiting and not received):
                self._pass_on(received)
                if not received:
                    self._start()
                self._look(stopping=bool(received))
                self.changed()
                time.sleep(SECONDS_BETWEEN_LOOKS)
        for entry in self.waiting:
            entry.look()
        return 128 + received[0] if received else 0

    def _start(self) -> None:
        free = len(self.waiting) if self.launcher.slots is None else self.launcher.slots - len(self.started)
        ready: list[Entry] = []
        taken_up = {stage.result for each in self.started for stage in each.entry.unfinished}
        for entry in self.waiting:
            if len(ready) < free and entry.look() not in ("running", "done"):
                own = {stage.result for stage in entry.unfinished}
                if not own & taken_up:
                    ready.append(entry)
                    taken_up |= own
        self.waiting = [entry for entry in self.waiting if entry not in ready and entry.state != "done"]
        if not ready:
            return
        with self.launcher.together():
            for entry in ready:
                taken = {each.slot for each in self.started}
                slot = next(number for number in range(len(taken) + 1) if number not in taken)
                entry.state, entry.note = "running", ""
                self.started.append(_Started(entry, self.launcher.start(entry, slot), slot, time.monotonic()))

    def _pass_on(self, received: list[int]) -> None:
        for number in received[self.passed_on :]:
            for each in self.started:
                if self.passed_on and number == signal.SIGINT:
                    each.handle.kill()
                elif not self.passed_on:
                    each.handle.interrupt(number)
            self.passed_on += 1

    def _look(self, stopping: bool) -> None:
        for each in list(self.started):
            status = each.handle.poll()
            if status is None:
                each.entry.seconds = time.monotonic() - each.since
                continue
            self.started.remove(each)
            if not conclude(each.entry, status, stopping):
                self.waiting.append(each.entry)
            elif each.entry.state == "failed":
                self._give_up(each.entry)

    def _give_up(self, failed: Entry) -> None:
        """Mark the entries whose next stage is the one that failed: it would fail again."""
        stage = failed.unfinished[0]
        for entry in [entry for entry in self.waiting if entry.unfinished[:1] == [stage]]:
            entry.state, entry.note, entry.log = "failed", failed.note, failed.log
            self.waiting.remove(entry)


def conclude(entry: Entry, status: int, stopping: bool) -> bool:
    """Set the final state of an entry, and write it to its folder where its processes could not.

    Args:
        entry: entry whose processes have ended.
        status: exit status of its last process.
        stopping: whether it was asked to end.

    Returns:
        Whether it is finished; False if another process holds its folder and has to be waited for.
    """
    entry.note = ""
    state = entry.look()
    if state == "running":
        return stopping
    if state == "done":
        return True
    if stopping or status in ENDED_BY_SIGNAL:
        entry.note = "" if stopping else f"exit {status}: it was asked to end"
        return True
    entry.state, entry.note = "failed", how_it_ended(status, entry.log)
    _record_failure(entry)
    return True


def _record_failure(entry: Entry) -> None:
    """Mark the failed stage: a training that could not do it itself, or another one, which retains the numbers that it has."""
    stage = entry.unfinished[0]
    result = stage.folder.result
    if stage is not entry.stages[0] or result.get("state") == "running":
        stage.folder.write_result(**{"metrics": {}, "cards": {}, **result, "state": "failed", "error": entry.note})
