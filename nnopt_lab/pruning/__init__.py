"""Pruning: what to remove, when, and what is really saved by it."""

from nnopt_lab.pruning.blocks import (
    BlockImportance,
    mask_blocks,
    measure_blocks,
    removable_blocks,
    remove_blocks,
    removed_blocks,
    skip_block,
)
from nnopt_lab.pruning.budget import solve_budget
from nnopt_lab.pruning.channels import ChannelPlan, mask_channels, plan_channels, remove_channels, score_channels
from nnopt_lab.pruning.criteria import CRITERIA, channel_activity, gradient_magnitudes, input_magnitudes, score_weights
from nnopt_lab.pruning.dependencies import ChannelGroup, channel_groups
from nnopt_lab.pruning.gradual import (
    GradualPruning,
    HoldMasks,
    cubic_slope,
    cubic_sparsity,
    iterative,
    one_shot,
    rewind,
)
from nnopt_lab.pruning.granularity import GRANULARITIES, keep_n_of_m, spread_over_weights, unit_scores
from nnopt_lab.pruning.masks import SCOPES, Masks, choose_masks, keep_highest, rate_for, threshold_for
from nnopt_lab.pruning.prunable import layers_divisible_by, prunable_layers
from nnopt_lab.pruning.sensitivity import Sensitivity, measure_sensitivity

__all__ = [
    "CRITERIA",
    "GRANULARITIES",
    "SCOPES",
    "BlockImportance",
    "ChannelGroup",
    "ChannelPlan",
    "GradualPruning",
    "HoldMasks",
    "Masks",
    "Sensitivity",
    "channel_activity",
    "channel_groups",
    "choose_masks",
    "cubic_slope",
    "cubic_sparsity",
    "gradient_magnitudes",
    "input_magnitudes",
    "iterative",
    "keep_highest",
    "keep_n_of_m",
    "layers_divisible_by",
    "mask_blocks",
    "mask_channels",
    "measure_blocks",
    "measure_sensitivity",
    "one_shot",
    "plan_channels",
    "prunable_layers",
    "rate_for",
    "removable_blocks",
    "remove_blocks",
    "remove_channels",
    "removed_blocks",
    "rewind",
    "score_channels",
    "score_weights",
    "skip_block",
    "solve_budget",
    "spread_over_weights",
    "threshold_for",
    "unit_scores",
]
