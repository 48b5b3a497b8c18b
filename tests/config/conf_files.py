"""A small folder of configuration files with the classes that they name, instead of the project's own."""

import textwrap
from pathlib import Path

FILES = {
    "conf/train.yaml": """
        defaults:
          - _self_
          - quantizer: gsq
          - optimizer: adam
          - optimizer@discriminator_optimizer: adam
          - data: photos
          - loss: pixel
          - trainer: cpu
          - experiment: null
          - scale: null
        seed: 0               # run seed
        updates: 100          # generator steps
        batch_size: 16
        accumulate: 1
        image_size: 64
        ema_decay: 0.9
        learning_rate: 1e-3
        workers: 0
        log_every: 1
        validate_every: 1
        checkpoint_every: 1
        keep_checkpoints: 1
        runs_folder: runs
        init_from: null
        resume: null
        rerun: false
        plugins: []
        task:
          _target_: experiments.tasks.Task
          quantizer: ${quantizer}
          updates: ${updates}
        """,
    "conf/quantizer/gsq.yaml": """
        # @package _global_
        latent_dim: 64
        groups: 16
        quantizer:
          _target_: tokenizer.gsq.Spherical
          latent_dim: ${latent_dim}
          groups: ${divisor_of:groups,latent_dim}
          norm: l2
        """,
    "conf/quantizer/gsq_small.yaml": """
        # @package _global_
        defaults: [gsq, _self_]
        groups: 2
        """,
    "conf/quantizer/fsq.yaml": """
        # @package _global_
        latent_dim: 4
        quantizer:
          _target_: tokenizer.gsq.Scalar
          latent_dim: ${latent_dim}
        """,
    "conf/optimizer/adam.yaml": """
        _target_: experiments.tasks.adam
        learning_rate: ${learning_rate}
        """,
    "conf/data/photos.yaml": "size: 8",
    "conf/data/folder.yaml": "root: ???   # a folder of images",
    "conf/trainer/cpu.yaml": "devices: 1",
    "conf/loss/pixel.yaml": """
        weights:
          perceptual: 0.0
          adversarial: 0.1
        """,
    "conf/experiment/gsq/good.yaml": """
        # @package _global_
        defaults:
          - override /quantizer: gsq_small
        updates: 7
        loss: {weights: {adversarial: 0.5}}
        """,
    "conf/experiment/gsq/typo.yaml": """
        # @package _global_
        grups: 3
        """,
    "conf/experiment/gsq/nested_typo.yaml": """
        # @package _global_
        loss: {weights: {perceptul: 1.0}}
        """,
    "conf/experiment/gsq/argument_typo.yaml": """
        # @package _global_
        quantizer: {nrom: none}
        """,
    "conf/experiment/gsq/misplaced.yaml": """
        # @package _global_
        defaults:
          - override /head: parallel
        """,
    "conf/head/parallel.yaml": "width: 1",
    "conf/scale/smoke.yaml": """
        # @package _global_
        updates: 2
        """,
    "conf/scale/wrong.yaml": """
        # @package _global_
        batch_size: 2.5
        """,
    "conf/scale/indivisible.yaml": """
        # @package _global_
        groups: 7
        """,
    "tokenizer/gsq.py": """
        from typing import Literal
        class Spherical:
            def __init__(self, latent_dim: int, groups: int, norm: Literal["none", "l2"], decay: float = 0.9): ...
        class Scalar:
            def __init__(self, latent_dim: int): ...
        """,
    "experiments/tasks.py": """
        class Task:
            def __init__(self, quantizer, updates: int): ...
        def adam(learning_rate: float): ...
        """,
}


def write(root: Path, files: dict[str, str] = FILES) -> Path:
    """Write the files below a folder; the folder of configuration files."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(textwrap.dedent(text).lstrip())
    return root / "conf"
