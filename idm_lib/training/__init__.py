"""Training: configurations, data by step number, the loop, the tasks."""

from idm_lib.training.chain import ChainTask
from idm_lib.training.config import TrainConfig
from idm_lib.training.loop import train
from idm_lib.training.prior import PriorTask

__all__ = ["ChainTask", "PriorTask", "TrainConfig", "train"]
