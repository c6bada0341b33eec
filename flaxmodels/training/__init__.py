"""Training steps: a loss, an optimizer and a model as pure compiled functions."""

from .checkpoints import Checkpoints as Checkpoints
from .compile import compile as compile
from .compiled_steps import TrainSteps as TrainSteps
from .finite import NonFiniteError as NonFiniteError
from .finite import check_finite as check_finite
from .losses import DeferredLogits as DeferredLogits
from .losses import Part as Part
from .losses import chunked_cross_entropy as chunked_cross_entropy
from .losses import counts as counts
from .losses import cross_entropy as cross_entropy
from .losses import ctc_loss as ctc_loss
from .losses import loss as loss
from .losses import loss_parts as loss_parts
from .losses import loss_value as loss_value
from .losses import match_labels as match_labels
from .losses import targets as targets
from .optimizers.schedules import schedule as schedule
from .reports import Report as Report
from .reports import draw_curve as draw_curve
from .reports import flops_per_token as flops_per_token
from .reports import peak_flops as peak_flops
from .state import TrainState as TrainState
