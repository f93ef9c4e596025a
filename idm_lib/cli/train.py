"""Train a model from a configuration: seeded, resumable at any moment, on a CPU the same bits either way.

  idm train --config prior-tiny --data photos/ --out runs/prior
  idm train --config tiny --data div2k
  idm train --config sd15 --data div2k --set precision=bf16
  idm train --config sd15 --data photos/ --set start=FOLDER --set measure.low=0.3 --set measure.high=0.3
  idm train --config my.yaml --set steps=2000 --set optimiser.lr=3e-4
  idm train --config tiny --data scans/ --set data.validation=4

sd15 fine-tunes Stable Diffusion v1.5's U-Net, which it fetches from the hub; FOLDER is a copy of your own, a model
that you go on with, or a checkpoint of the paper's authors. Sets that have a name are fetched once, checked, and kept
in the user's cache, or where IDM_DATA says. A run that was stopped goes on where its last checkpoint was when the
same command is given again, or one with another optimiser.lr, schedule_lr, clip, warmup or decay.

Of medical scans (DICOM, NIfTI, fastMRI's HDF5), which are looked for in the folders below too, every slice is an
image; data.validation says how many patients are held out.
"""

import argparse
import json
from pathlib import Path

from idm_lib.cli.arguments import checked, seed

SUMMARY = "train a model from a configuration; stop and resume at will"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "--config", required=True, help="a YAML file, or the name of a configuration that comes with the package"
    )
    parser.add_argument(
        "--data", help="what to train on: a folder of images or scans, or div2k, flowers (fetched) or synthetic"
    )
    parser.add_argument("--out", help="folder of the run (default: runs/NAME)")
    parser.add_argument("--seed", type=checked(seed), help="of the first weights and every batch")
    parser.add_argument(
        "--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help="change some values"
    )


def run(options: argparse.Namespace) -> int:
    """Train to the end."""
    from idm_lib.errors import InputError
    from idm_lib.training import ChainTask, PriorTask, TrainConfig, train

    overrides = list(options.set)
    if options.data == "":
        raise InputError("--data must be a folder or the name of a set; got nothing; leave it out for the default.")
    if options.data is not None:
        overrides.append(f"data.folder={json.dumps(options.data)}")  # quoted: a folder may be called 2024
    if options.seed is not None:
        overrides.append(f"seed={options.seed}")
    config = TrainConfig.load(options.config, overrides)
    tasks = {"prior": PriorTask, "chain": ChainTask}
    if config.task not in tasks:
        raise InputError(f"task must be one of {', '.join(tasks)}; got {config.task!r}.")
    final = train(tasks[config.task](config), config, Path(options.out or Path("runs") / config.name))
    print(f"weights: {final}")
    return 0
