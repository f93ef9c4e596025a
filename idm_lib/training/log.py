"""What a run writes down: scalars to a text file, and with pictures to TensorBoard where it is installed."""

import json
import math
import time
from pathlib import Path

from torch import Tensor

from idm_lib.errors import InputError
from idm_lib.training.checkpoint import write_whole


def _logged_step(line: str) -> float:
    """The step that a line of the log is about; infinite for a line that a kill or a full disk cut short."""
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf


class RunLog:
    """``log.jsonl`` of a run's folder, a line a step, and TensorBoard's events if tensorboard is installed.

    Args:
        out: the run's folder.
        start: the step that the run goes on from; later lines are dropped.
    """

    def __init__(self, out: Path, start: int) -> None:
        path = out / "log.jsonl"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        kept = [line for line in lines if _logged_step(line) <= start]  # not past the checkpoint
        write_whole(path, lambda file: file.write("".join(line + "\n" for line in kept).encode()))
        self._file = path.open("a")
        self._began = time.monotonic()
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._board = None
        else:
            self._board = SummaryWriter(out / "tensorboard", purge_step=start)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Add one line.

        Raises:
            InputError: the disk is full.
        """
        seconds = round(time.monotonic() - self._began, 1)
        try:
            self._file.write(json.dumps({"step": step, "seconds": seconds} | scalars) + "\n")
            self._file.flush()
        except OSError as error:
            raise InputError(
                f"the log {self._file.name} could not be written ({error.strerror or error}); make room and resume."
            ) from None
        if self._board:
            for name, value in scalars.items():
                self._board.add_scalar(name, value, step)

    def show(self, step: int, pictures: dict[str, Tensor]) -> None:
        """Give TensorBoard pictures, each (1, H, W) with values in [0, 1] or beyond."""
        if self._board:
            for name, picture in pictures.items():
                self._board.add_image(name, picture.float().cpu().clamp(0, 1), step)

    def close(self) -> None:
        """Close both."""
        self._file.close()
        if self._board:
            self._board.close()
