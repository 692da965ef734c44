"""Quantization: fewer bits for each number, and what they cost."""

from nnopt_lab.quantization.extreme import binarize, pack_signs, sign_product, ternarize, xnor_conv2d
from nnopt_lab.quantization.fake import (
    SCHEMES,
    QuantizedConv2d,
    QuantizedLinear,
    calibrate,
    fake_quantize,
    prepare,
    quantized_layers,
    weight_grids,
)
from nnopt_lab.quantization.folding import correct_bias, fold_batch_norm
from nnopt_lab.quantization.grids import (
    MOST_BITS,
    Grid,
    as_rows,
    bits_without_change,
    choose_grid,
    dequantize,
    ends_of,
    grid_for,
    quantize,
    rounded,
    value_range,
)
from nnopt_lab.quantization.integer import LARGEST_SUM, IntegerLayer, fixed_point, integer_layer, requantize
from nnopt_lab.quantization.mixed import choose_bits, measure_bits
from nnopt_lab.quantization.observers import (
    OBSERVERS,
    RangeObserver,
    observe,
    signal_to_noise_db,
    uniform_noise_line,
)

__all__ = [
    "LARGEST_SUM",
    "MOST_BITS",
    "OBSERVERS",
    "SCHEMES",
    "Grid",
    "IntegerLayer",
    "QuantizedConv2d",
    "QuantizedLinear",
    "RangeObserver",
    "as_rows",
    "binarize",
    "bits_without_change",
    "calibrate",
    "choose_bits",
    "choose_grid",
    "correct_bias",
    "dequantize",
    "ends_of",
    "fake_quantize",
    "fixed_point",
    "fold_batch_norm",
    "grid_for",
    "integer_layer",
    "measure_bits",
    "observe",
    "pack_signs",
    "prepare",
    "quantize",
    "quantized_layers",
    "requantize",
    "rounded",
    "sign_product",
    "signal_to_noise_db",
    "ternarize",
    "uniform_noise_line",
    "value_range",
    "weight_grids",
    "xnor_conv2d",
]
