"""Several models as one: `ModelEnsemble`; token by token that is `holdfast.decoding.Ensemble`."""

from holdfast.ensemble.model import Combine, ModelEnsemble
from holdfast.ensemble.vocabulary import require_one_vocabulary

__all__ = ["Combine", "ModelEnsemble", "require_one_vocabulary"]
