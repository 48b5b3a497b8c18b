"""One generation: what is generated, from which model, into which folder. Imports torch only to generate."""

import time
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config.checks import check_output
from experiments.config.errors import ConfigError, config_errors
from experiments.config.settings import GenerateSettings
from experiments.evaluation.checks import check_generation, output_folder, select_classes
from experiments.evaluation.results import not_computed, plain, skipped_of
from experiments.runs.folder import CONFIG, RunFolder
from experiments.runs.model_folder import ModelFolder
from experiments.runs.terminal import progress
from tokenizer.files import sha256, short_hash
from tokenizer.generators.settings import Guidance, Sampling

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from experiments.data.source import ImageSource
    from experiments.evaluation.metrics.samples import SampleMetrics
    from tokenizer.image_tokenizer import ImageTokenizer
    from tokenizer.interfaces import Generator

# Settings that change the files.
SETTINGS = (
    "weights", "n", "classes", "balanced", "guidance", "guidance_schedule", "guidance_start", "guidance_end", "first_token",
    "temperature", "top_k", "top_p", "seed", "precision", "compile", "shown", "npz", "metrics", "reference",
)  # fmt: skip
GRID, SAMPLES = "grid.png", "samples.npz"


class GenerateJob:
    """Samples of a generator with their files and metrics.

    Attributes:
        identity: digest of everything that changes the samples; a sample does not depend on its batch.
        folder: output folder.
        stored: `result.json` of the output folder, empty if there is none.

    Raises:
        ConfigError, DataError: a setting does not fit, or the output folder has other contents.
        MissingWeightsError: no metric can be computed.
    """

    def __init__(self, settings: GenerateSettings) -> None:
        self.settings = settings
        self.model = ModelFolder(settings.model)
        self.model.require("generator")
        check_generation(settings, self.model)
        count, self.names = int(self.model.tokens["num_classes"]), list(self.model.trained_with.get("classes") or [])
        self.classes = select_classes(settings.classes, settings.balanced, settings.n, count, self.names)
        self.names = self.names or [str(number) for number in range(count)]
        with config_errors(""):
            schedule = (settings.guidance_schedule, settings.guidance_start, settings.first_token, settings.guidance_end)
            guidance = Guidance(settings.guidance, *schedule)
            self.sampling = Sampling(settings.temperature, settings.top_k, settings.top_p, guidance, settings.seed)
        self.recorded_settings = {key: getattr(settings, key) for key in SETTINGS}
        unplaced = {key: value for key, value in self.recorded_settings.items() if key != "reference"}  # its content counts, see below
        weights, tokenizer = self.model.weights_digest(), self.model.tokenizer["digest"]
        self.identity = short_hash([weights, tokenizer, unplaced, self._evaluators()])
        self.folder = output_folder(settings.output, "generations", self.model, self.identity)
        self.stored = self._stored()

    @property
    def files(self) -> list[Path]:
        return [self.folder / GRID] + [self.folder / SAMPLES] * self.settings.npz

    @property
    def is_done(self) -> bool:
        """Whether the samples are there and are not to be repeated."""
        same = self.stored.get("identity") == self.identity
        return same and all(file.is_file() for file in self.files) and not self.settings.rerun

    def run(self) -> dict[str, Any]:
        """Write the files, and return the content of `result.json`."""
        from experiments.evaluation.samples import draw_labels
        from experiments.runs.devices import choose_device
        from experiments.runs.models import tokenizer_of

        settings, device = self.settings, choose_device(self.settings.device)
        generator = self._generator().to(device)
        tokenizer = tokenizer_of(settings.model, settings.tokenizer).to(device)
        labels = draw_labels(settings.n, self.classes, generator.tokens.num_classes, self.sampling.seed)
        metrics = self._metrics(tokenizer, device) if settings.metrics else None
        began = time.perf_counter()
        preview = self._write_samples(generator, tokenizer, labels, metrics)
        seconds = time.perf_counter() - began
        self._write_grid(preview, labels)
        return self._result(labels, metrics, seconds, settings.n * generator.tokens.num_tokens / seconds, device)

    def _stored(self) -> dict[str, Any]:
        """The result in the output folder, which must be of samples."""
        check_output(self.folder, is_file=False)
        stored = RunFolder(self.folder).result
        if (self.folder / CONFIG).is_file() or (stored and "identity" not in stored):
            raise ConfigError("output", str(self.folder), reason="it holds something else, not samples")
        if stored and stored["identity"] != self.identity and not self.settings.rerun:
            advice = "change `output`, or rerun=true overwrites them"
            raise ConfigError("output", str(self.folder), reason="it holds other samples", advice=advice)
        return stored

    def _generator(self) -> "Generator":
        """In the precision of the settings, compiled if set."""
        from experiments.runs.models import load_generator

        generator = load_generator(self.settings.model, self.settings.weights)[0]
        if self.settings.precision == "bf16":
            generator.bfloat16()
        if self.settings.compile:
            generator.blocks.compile_each()
        return generator

    @cached_property
    def source(self) -> "ImageSource | None":
        """The real images that samples are compared with."""
        from experiments.runs.build import build

        return build(self.settings.data, "data") if self.settings.data else None

    def _evaluators(self) -> list[str | None]:
        """Identity of what samples are compared with: the content of files, wherever they are."""
        settings = self.settings
        images = self.source.fingerprint() if settings.metrics and self.source else None
        return [images, sha256(Path(settings.reference)) if settings.reference else None]

    def _metrics(self, tokenizer: "ImageTokenizer", device: "torch.device") -> "SampleMetrics":
        from experiments.evaluation.sample_evaluators import SampleEvaluators
        from experiments.evaluation.samples import describe_classes

        settings = self.settings
        reference = Path(settings.reference) if settings.reference else None
        evaluators = SampleEvaluators(self.source, reference, tokenizer, device, settings.batch_size, settings.workers)
        # A run without averaged weights generates with the trained ones.
        subject = self.model.weights or (settings.weights if self.model.config["ema_decay"] else "raw")
        classes = describe_classes(settings.n, self.classes, int(self.model.tokens["num_classes"]))
        return evaluators.metrics(settings.image_size, subject, self.sampling.seed, self.sampling.summary, classes)

    def _write_samples(
        self, generator: "Generator", tokenizer: "ImageTokenizer", labels: "Tensor", metrics: "SampleMetrics | None"
    ) -> "Tensor":
        """Generate; returns the first images."""
        import torch

        from experiments.evaluation.samples import generate_images, write_samples

        settings, tokens = self.settings, generator.tokens
        device = next(generator.parameters()).device
        with progress(settings.n * tokens.num_tokens, "tokens") as advance:
            batches = generate_images(
                generator, tokenizer, labels, torch.arange(settings.n), self.sampling, tokens.layout, device, settings.batch_size, advance
            )
            return write_samples(batches, labels, self.folder / SAMPLES if settings.npz else None, settings.shown, metrics)

    def _write_grid(self, preview: "Tensor", labels: "Tensor") -> None:
        from experiments.evaluation.figures import save_image
        from experiments.evaluation.samples import sample_grid

        few = self.classes is not None and 2 * len(set(self.classes)) <= len(preview)
        by_class = few or self.settings.classes is not None
        save_image(sample_grid(preview, labels[: len(preview)].tolist(), self.names, by_class), self.folder / GRID)
        if not self.settings.npz:
            (self.folder / SAMPLES).unlink(missing_ok=True)  # of an earlier call

    def _result(
        self, labels: "Tensor", metrics: "SampleMetrics | None", seconds: float, speed: float, device: "torch.device"
    ) -> dict[str, Any]:
        import torch

        from experiments.evaluation.cards import code_version
        from experiments.evaluation.results import Results

        counts = Counter(labels.tolist())
        results = Results() if metrics is None else metrics.compute()
        numbers: dict[str, dict[str, Any]] = {"metrics": results.values, "cards": results.cards, "skipped": plain(results.skipped)}
        return {
            "state": "done",
            "identity": self.identity,
            "settings": self.recorded_settings,
            "counts": {self.names[label]: counts[label] for label in sorted(counts) if self.names},
            "generator": self.settings.model,
            "tokenizer": self.model.tokenizer,
            "seconds": seconds,
            "tokens_per_second": speed,
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
            "code_version": code_version(),
            **{group: {f"gen/{name}": entry for name, entry in entries.items()} for group, entries in numbers.items()},
        }


def summary(result: dict[str, Any]) -> str:
    """Speed, numbers and absent metrics of the content of a `result.json`, a line each."""
    speed = f"{result['settings']['n']} samples in {result['seconds']:.1f} s, {result['tokens_per_second']:.0f} tokens a second"
    numbers = [f"{name} {value:.4g}" for name, value in result["metrics"].items()]
    return "\n".join([speed, *numbers, *not_computed(skipped_of(result).items())])
