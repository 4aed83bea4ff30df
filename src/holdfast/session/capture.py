"""A training session as component states: nothing is copied yet, nothing is written."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.optim import Optimizer

from holdfast.session.objects import MODEL, OPTIMIZER, RNG, RUN, SCALER, SCHEDULER, LiveObjects
from holdfast.state import (
    ComponentState,
    SavesItself,
    capture_module,
    capture_object,
    capture_optimizer,
    capture_rng,
    module_state,
)


def capture_session(
    objects: LiveObjects,
    run_state: Mapping[str, object],
    *,
    with_optimizer: bool = True,
    with_rng: bool = True,
    rng: ComponentState | None = None,
) -> list[ComponentState]:
    """Capture every component; the tensors are views of live memory.

    run_state: what the manager itself remembers (metrics history, model configuration, the user's
    extra state, ...), saved as the component "run". with_optimizer: also optimizer, scheduler and
    scaler; registered objects are always saved. rng: the random states as captured earlier, in
    place of the present ones. Raises UnsavableError naming the value that cannot
    be saved.
    """
    objects.reshard()
    optimizers = [name for name, _ in objects.optimizers() if with_optimizer or name != OPTIMIZER]
    looked_at = {
        name: module_state(module)
        for name, module in objects.modules()
        if not isinstance(module, SavesItself)
    }
    names = objects.parameter_names(looked_at) if optimizers else {}
    states = [capture_module(MODEL, objects.model, state=looked_at.get(MODEL))]
    if with_optimizer:
        if objects.optimizer is not None:
            states.append(capture_optimizer("optimizer", objects.optimizer, names))
        if objects.scheduler is not None:
            states.append(capture_object(SCHEDULER, objects.scheduler))
        if objects.scaler is not None:
            states.append(capture_object(SCALER, objects.scaler))
    for name, value in objects.registered.items():
        if isinstance(value, SavesItself):
            states.append(value.capture_component(name))
        elif isinstance(value, nn.Module):
            states.append(capture_module(name, value, state=looked_at[name]))
        elif isinstance(value, Optimizer):
            states.append(capture_optimizer(name, value, names))
        else:
            states.append(capture_object(name, value))
    if with_rng:
        states.append(capture_rng(RNG, objects.generators) if rng is None else rng)
    states.append(capture_object(RUN, dict(run_state)))
    return states
