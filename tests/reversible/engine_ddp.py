"""One process of the distributed test: ``python engine_ddp.py RANK WORLD RENDEZVOUS RESULT``."""

import sys

import torch
import torch.distributed as dist
from engine_models import ConvBody, loss_of, streams
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from idm_lib.reversible import ReversibleChain, WiredCoupling


class TwoLevels(nn.Module):
    """Two chains with a skip between them, tied bodies and tied v."""

    def __init__(self, memory: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        shared, v = ConvBody(), nn.Parameter(torch.tensor([0.6]))
        self.down = ReversibleChain([WiredCoupling(ConvBody()), WiredCoupling(shared, v=v)])
        self.up = ReversibleChain([WiredCoupling(shared, v=v), WiredCoupling(ConvBody()), WiredCoupling(ConvBody())])
        self.memory = memory

    def forward(self, x1, x2):
        h1, h2 = self.down(x1, x2, memory=self.memory)
        return self.up(h1, h2, extras=[(h1,), (), (h2,)], memory=self.memory)


def two_steps(model, shards):
    """Gradients after one step with accumulation over two micro-batches, and after a plain second one."""
    found = []
    for seeds in ((1, 2), (3,)):
        model.zero_grad()
        for number, seed in enumerate(seeds):
            last = number == len(seeds) - 1
            with SyncOnlyLast(model, last):
                total = sum(
                    loss_of(*model(*streams(dtype=torch.float32, seed=10 * seed + shard))) for shard in shards
                )
                (total / len(shards)).backward()
        found.append([p.grad.clone() for p in model.parameters()])
    return found


class SyncOnlyLast:
    """``no_sync`` on all but the last micro-batch, where the model is distributed."""

    def __init__(self, model, last):
        self.context = model.no_sync() if not last and isinstance(model, DistributedDataParallel) else None

    def __enter__(self):
        if self.context:
            self.context.__enter__()

    def __exit__(self, *exception):
        if self.context:
            self.context.__exit__(*exception)


def main(rank: int, world: int, rendezvous: str, result: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
    found = {
        memory: two_steps(DistributedDataParallel(TwoLevels(memory)), [rank]) for memory in ("checkpoint", "invert")
    }
    if rank == 0:
        torch.save(found, result)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
