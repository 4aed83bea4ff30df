"""What two checkpoints differ in: tensors, module by module, and everything else.

    compare(left, right) -> Comparison

Sides may be checkpoint folders of ours, `.pt` files, and safetensors files and folders.
"""

from holdfast.compare.records import Comparison, Module, Numbers, TensorChange, TreeChange
from holdfast.compare.run import compare

__all__ = ["Comparison", "Module", "Numbers", "TensorChange", "TreeChange", "compare"]
