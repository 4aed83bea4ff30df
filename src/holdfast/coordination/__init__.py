"""Several ranks as one: every decision is taken once, by rank 0, and known to all or failed by all.

    coordination = Alone()                       one process
    coordination = join_process_group()          the ranks of torch.distributed
    with coordination.begin("save", timeout_seconds=600) as operation:
        answer = operation.round("written", part, decide)

A round is all there is: every rank gives its part, rank 0 makes one answer of all of them, every
rank gets it. A rank that raises, ends or does not answer in time makes the round fail on all ranks
with its reason. There is nothing in it that a failure could leave out of step.
"""

from holdfast.coordination.alone import Alone
from holdfast.coordination.protocol import Coordination, Decide, Operation
from holdfast.coordination.star import Hub, Spoke, connect, listen

__all__ = ["Alone", "Coordination", "Decide", "Hub", "Operation", "Spoke", "connect", "listen"]
