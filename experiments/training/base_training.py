"""What differs between the trainings of different models. What they share is in `experiments.training.loop`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from experiments.data.loading import ImageData
from experiments.evaluation.reconstruction import Evaluation
from experiments.runs import build
from experiments.training.clock import ClockedTask


class Training(ABC):
    """The training of one kind of model with one configuration.

    Attributes:
        config: resolved.
        idle_parameters: whether some parameters have no part in some backward passes.
    """

    config: Mapping[str, Any]
    idle_parameters: bool

    @abstractmethod
    def check_sizes(self) -> None:
        """Let the parts judge their sizes and the data's before any of them has weights: the meta device has no memory.

        Raises:
            ValueError: as they say.
        """

    @abstractmethod
    def contents(self) -> dict[str, str | None]:
        """What the data's files hold, for the identity of the run: fingerprints and digests by name."""

    @abstractmethod
    def prepare(self, task: Any) -> None:
        """Let the built parts meet before a folder is made, and give the task what is not built from its own configuration.

        Raises:
            ValueError: they do not fit together.
        """

    @abstractmethod
    def described(self, task: Any) -> dict[str, Any]:
        """What others have to know of the model, plain containers for `environment.json`."""

    @abstractmethod
    def summarize(self, task: Any) -> None:
        """Say once what is trained."""

    @abstractmethod
    def judge(self, task: Any, data: ImageData) -> Callable[[], Evaluation]:
        """A function that judges the averaged and the trained model on the evaluation data."""

    @abstractmethod
    def draw(self, evaluation: Evaluation) -> Image.Image:
        """The picture of an evaluation that has images."""

    def build_task(self, checkpoint: Path | None) -> ClockedTask:
        """The task with its parts, their weights drawn from the run's seed alone or taken from `init_from`, unless a checkpoint follows."""
        task = build.task(self.config)
        torch.manual_seed(self.config["seed"])
        task.configure_model()
        self.prepare(task)
        if self.config["init_from"] and checkpoint is None:
            build.initialize(task.trained, self.config["init_from"])
            if task.average is not None:
                task.average.load_averaged_state(task.trained.state_dict())
        return task
