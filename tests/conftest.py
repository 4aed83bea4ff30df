"""Shared by all tests."""

from __future__ import annotations

import torch

# Two workers share two cores: more threads each would only wait for one another.
torch.set_num_threads(1)
