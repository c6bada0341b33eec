"""Reports of a training run: a table, JSON lines, TensorBoard, a picture, rates and profiles."""

from .curve import draw_curve as draw_curve
from .flops import flops_per_token as flops_per_token
from .flops import peak_flops as peak_flops
from .report import Report as Report
