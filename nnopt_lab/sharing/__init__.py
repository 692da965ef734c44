"""Weight sharing: few values stand for many weights, and the indices that say which are coded in few bits.

Pruning, sharing and coding one after the other are "deep compression" (Han et al., 2016, arXiv:1510.00149)::

    choose_masks(model, rate=0.8).apply(model)          # and training with HoldMasks
    shared = share_weights(model, bits=4)
    tied = tie_weights(model, shared)                   # and training as usual: of the codebooks
    model, shared = untie_weights(tied)
    write_shared(path, model, shared)
"""

from nnopt_lab.sharing.clusters import INITIALIZATIONS, Clustering, center_path, cluster_values, initial_centers
from nnopt_lab.sharing.coding import CODINGS, CodedIndices, decode_indices, encode_indices, gap_places, gap_symbols
from nnopt_lab.sharing.huffman import HuffmanCode, code_lengths, entropy_bits
from nnopt_lab.sharing.shared import Shared, SharedLayer, share_weights
from nnopt_lab.sharing.storage import parts_of_file, read_shared, write_shared
from nnopt_lab.sharing.tying import Lookup, sum_by_cluster, tie_weights, untie_weights

__all__ = [
    "CODINGS",
    "INITIALIZATIONS",
    "Clustering",
    "CodedIndices",
    "HuffmanCode",
    "Lookup",
    "Shared",
    "SharedLayer",
    "center_path",
    "cluster_values",
    "code_lengths",
    "decode_indices",
    "encode_indices",
    "entropy_bits",
    "gap_places",
    "gap_symbols",
    "initial_centers",
    "parts_of_file",
    "read_shared",
    "share_weights",
    "sum_by_cluster",
    "tie_weights",
    "untie_weights",
    "write_shared",
]
