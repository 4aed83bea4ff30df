"""Objects as state: capture into `ComponentState`, restore through plans that prove first.

    capture_module, capture_optimizer, capture_object, capture_rng   live objects -> ComponentState
    plan_module, plan_optimizer, plan_object, plan_rng, plan_value   StoredComponent -> RestorePlan

A plan changes nothing until its targets are filled and `finish()` is called.
"""

from holdfast.state._module_state import ModuleState, module_state, parameter_names
from holdfast.state.capture import capture_module, capture_object, capture_optimizer
from holdfast.state.component import ComponentState, Kind, StoredComponent, StoredTensor
from holdfast.state.displaced import Displacement, is_displaced, note_displacement
from holdfast.state.loose import (
    component_of_module_state,
    component_of_optimizer_state,
    component_of_original_rng,
)
from holdfast.state.module_plan import plan_module
from holdfast.state.names import canonical_name, canonical_names, unwrap
from holdfast.state.object_plan import Stateful, copied, plan_object, plan_value
from holdfast.state.optimizer_plan import plan_optimizer
from holdfast.state.own_component import SavesItself
from holdfast.state.plan import CastPolicy, RestorePlan, raise_problems
from holdfast.state.problems import Problem, ProblemKind
from holdfast.state.renames import Renames, find_renames
from holdfast.state.rng import StreamLine, capture_rng, plan_rng
from holdfast.state.sharded import Placed, is_sharded, local_part, placed
from holdfast.state.torch_tags import torch_codec

__all__ = [
    "CastPolicy",
    "ComponentState",
    "Displacement",
    "Kind",
    "ModuleState",
    "Placed",
    "Problem",
    "ProblemKind",
    "Renames",
    "RestorePlan",
    "SavesItself",
    "Stateful",
    "StoredComponent",
    "StoredTensor",
    "StreamLine",
    "canonical_name",
    "canonical_names",
    "capture_module",
    "capture_object",
    "capture_optimizer",
    "capture_rng",
    "component_of_module_state",
    "component_of_optimizer_state",
    "component_of_original_rng",
    "copied",
    "find_renames",
    "is_displaced",
    "is_sharded",
    "local_part",
    "module_state",
    "note_displacement",
    "parameter_names",
    "placed",
    "plan_module",
    "plan_object",
    "plan_optimizer",
    "plan_rng",
    "plan_value",
    "raise_problems",
    "torch_codec",
    "unwrap",
]
