"""One case or more for each row of the table of styles, with the fork's own formula.

The formulas are written from the forks' layers, channel by channel, and share no code with the
package.
"""

from math import sqrt
from typing import Callable, Dict, List, NamedTuple, Sequence

import numpy as np

Array = np.ndarray
C = 5
AXES = "(1, C, 1, 1)"


class Case(NamedTuple):
    """A layer of a fork: its text, its blobs (see ``make``), and y of x in channel c."""

    style: str
    kind: str
    body: str
    blobs: str
    y: Callable[[Array, int, Sequence[Array]], Array]
    shape: str = "(C)"
    ask: bool = False  # only --bn-style tells


def make(case: Case) -> List[Array]:
    """Its blobs: m mean, v variance, f factor, i inverse, s scale, b bias, 0 and 1 that number."""
    random = np.random.default_rng(sum(map(ord, case.style + case.body)))
    out = []
    for letter in case.blobs:
        values = {
            "m": random.standard_normal(C) * (FACTOR if "f" in case.blobs else 1),
            "v": random.uniform(0.3, 2, C) * (FACTOR if "f" in case.blobs else 1),
            "f": np.array([FACTOR]),
            "i": random.uniform(0.5, 2, C),
            "s": random.uniform(0.5, 1.5, C) * np.array([1, -1, 1, 1, -1]),
            "b": random.standard_normal(C) * 0.5 * np.array([1, 1, -1, 1, 1]),
            "0": np.zeros(1),
            "1": np.ones(1),
        }[letter].astype(np.float32)
        shape = {"(C)": (-1,), "(1, C)": (1, -1), AXES: (1, -1, 1, 1)}[case.shape]
        out.append(values.reshape(shape))
    return out


FACTOR = 999.98


def expected(case: Case, x: Array, blobs: Sequence[Array]) -> Array:
    """What the fork's layer gives for x (N, C, ...), in float64."""
    flat = [blob.astype(np.float64).reshape(-1) for blob in blobs]
    return np.stack([case.y(x[:, c], c, flat) for c in range(x.shape[1])], axis=1)


def statistics(eps: float) -> Callable[[Array, int, Sequence[Array]], Array]:
    """BVLC: mean and variance over their factor."""
    return lambda x, c, b: (x - b[0][c] / b[2][0]) / sqrt(b[1][c] / b[2][0] + eps)


def with_scale(eps: float) -> Callable[[Array, int, Sequence[Array]], Array]:
    """Intel and Cambricon: the same, then scale and bias."""
    plain = statistics(eps)
    return lambda x, c, b: b[3][c] * plain(x, c, b) + (b[4][c] if len(b) > 4 else 0.0)


def slope(eps: float) -> Callable[[Array, int, Sequence[Array]], Array]:
    """Slope, bias, mean, variance in this order."""
    return lambda x, c, b: b[0][c] * (x - b[2][c]) / sqrt(b[3][c] + eps) + b[1][c]


def nvidia(eps: float) -> Callable[[Array, int, Sequence[Array]], Array]:
    """NVIDIA from 0.16 on: mean, variance, a third blob that is not read, scale and bias."""
    return lambda x, c, b: (x - b[0][c]) / sqrt(b[1][c] + eps) * (
        b[3][c] if len(b) > 3 else 1.0
    ) + (b[4][c] if len(b) > 3 else 0.0)


BATCH = "batch_norm_param { %s }"
BN = "bn_param { %s }"
_DISABLED = "disable_mean: %s disable_variance: %s"

CASES: Dict[str, Case] = {
    "bvlc": Case("bvlc", "BatchNorm", "", "mvf", statistics(1e-5)),
    "bvlc-pspnet": Case(
        "bvlc", "BatchNorm", BATCH % "eps: 1e-3 update_global_stats: true", "mvf", statistics(1e-3)
    ),
    "bvlc-intel-text": Case(
        "bvlc", "BatchNorm", BATCH % "engine: CAFFE filler { value: 1 }", "mvf", statistics(1e-5)
    ),
    "nvidia-3": Case(
        "nvidia", "BatchNorm", BATCH % "scale_bias: false eps: 1e-7", "mv1", nvidia(1e-5)
    ),
    "nvidia-3-factor-0": Case(
        "nvidia", "BatchNorm", BATCH % "scale_bias: false eps: 1e-3", "mv0", nvidia(1e-3)
    ),
    "nvidia-3-of-bvlc": Case("nvidia", "BatchNorm", "", "mv0", nvidia(1e-5), ask=True),
    "nvidia": Case("nvidia", "BatchNorm", BATCH % "scale_bias: true", "mv1sb", nvidia(1e-5)),
    "nvidia-clamp": Case(
        "nvidia", "BatchNorm", BATCH % "scale_bias: true eps: 1e-8", "mv0sb", nvidia(1e-5)
    ),
    "nvidia-no-fields": Case("nvidia", "BatchNorm", "", "mv1sb", nvidia(1e-5)),
    "nvidia-ignores-use_global_stats": Case(
        "nvidia",
        "BatchNorm",
        BATCH % "use_global_stats: false engine: CUDNN scale_filler { value: 1 }",
        "mv1sb",
        nvidia(1e-5),
    ),
    "nvidia-0.15": Case(
        "nvidia-0.15", "BatchNorm", BATCH % "bias_filler { value: 0 } eps: 0.001", "sbmv1",
        slope(1e-3),
    ),
    "nvidia-0.15-caffe": Case(
        "nvidia-0.15", "BatchNorm", BATCH % "engine: CAFFE eps: 1e-7", "sbmv1", slope(1e-7)
    ),
    "nvidia-0.15-cudnn": Case(
        "nvidia-0.15", "BatchNorm", BATCH % "engine: CUDNN eps: 1e-7 use_global_stats: false",
        "sbmv1", slope(1e-5), AXES,
    ),
    "nvidia-0.15-cudnn-wrote-it": Case(
        "nvidia-0.15", "BatchNorm", BATCH % "eps: 1e-7 use_global_stats: false", "sbmv1",
        slope(1e-5), AXES,
    ),
    "nvidia-0.14": Case(
        "nvidia-0.14",
        "BatchNorm",
        BATCH % "engine: CUDNN eps: 0.1",
        "sb1mv",
        lambda x, c, b: b[0][c] * (x - b[3][c]) / sqrt(b[4][c] + 1e-4) + b[1][c],
        AXES,
    ),
    "intel": Case("intel", "BatchNorm", BATCH % "use_weight_bias: true", "mvfsb", with_scale(1e-5)),
    "intel-no-fields": Case("intel", "BatchNorm", "", "mvfsb", with_scale(1e-5)),
    "intel-4": Case(
        "intel", "BatchNorm", BATCH % "engine: MKL2017 bias_term: false", "mvfs", with_scale(1e-5)
    ),
    "cambricon": Case(
        "cambricon", "BatchNorm", BATCH % "use_alpha_beta: true eps: 0.01", "mvfsb",
        with_scale(0.01),
    ),
    "happynear-mean": Case(
        "happynear", "BatchNorm", BATCH % (_DISABLED % ("true", "false")), "mvf",
        lambda x, c, b: x / sqrt(b[1][c] / b[2][0] + 1e-5),
    ),
    "happynear-variance": Case(
        "happynear", "BatchNorm", BATCH % (_DISABLED % ("false", "true")), "mvf",
        lambda x, c, b: x - b[0][c] / b[2][0],
    ),
    "happynear-both": Case(
        "happynear", "BatchNorm", BATCH % (_DISABLED % ("true", "true")), "mvf",
        lambda x, c, b: x,
    ),
    "synopsys": Case(
        "synopsys", "BatchNorm", BATCH % "add_eps_before_sqrt: false eps: 0.1", "mvf",
        lambda x, c, b: (x - b[0][c] / b[2][0]) / (sqrt(b[1][c] / b[2][0]) + 0.1),
    ),
    "synopsys-inside": Case(
        "synopsys", "BatchNorm", BATCH % "add_eps_before_sqrt: true eps: 0.1", "mvf",
        statistics(0.1),
    ),
    "segnet": Case(
        "segnet", "BN", BN % "bn_mode: INFERENCE scale_filler { value: 1 }", "sb",
        lambda x, c, b: b[0][c] * x + b[1][c], AXES,
    ),
    "yjxiong": Case("yjxiong", "BN", BN % "slope_filler { value: 1 } eps: 0.01", "sbmv",
                    slope(0.01), "(1, C)"),
    "pspnet": Case("yjxiong", "BN", BN % "frozen: true momentum: 0.95", "sbmv", slope(1e-5), AXES),
    "syncbn": Case("yjxiong", "SyncBN", "", "sbmv", slope(1e-5), "(1, C)"),
    "bnhk": Case("yjxiong", "BNHK", "bnhk_param { eps: 0.02 }", "sbmv", slope(0.02), "(1, C)"),
    "yjxiong-small-eps": Case(
        "yjxiong", "BN", BN % "frozen: true eps: 1e-7", "sbmv", slope(1e-7), AXES, True
    ),
    "yjxiong-cudnn": Case(
        "yjxiong-cudnn", "BN", BN % "frozen: true eps: 1e-7", "sbmv", slope(1e-5), AXES, True
    ),
    "yjxiong-invstd": Case(
        "yjxiong-invstd", "BN", BN % "frozen: true", "sbmi",
        lambda x, c, b: b[0][c] * (x - b[2][c]) * b[3][c] + b[1][c], "(1, C)", True,
    ),
    "yjxiong-2015": Case(
        "yjxiong-2015", "BN", BN % "slope_filler { value: 1 } moving_average: true", "sbmv",
        slope(1e-7), AXES, True,
    ),
    "lxx1991": Case("lxx1991", "BN", BN % "rebn: true eps: 0.01", "sbmv", slope(0.01), "(1, C)"),
    "sophgo": Case(
        "sophgo", "BN", BN % "bn_mode: LEARN slope_filler { value: 1 }", "sbmv", slope(1e-5), AXES
    ),
    "synopsys-icnet": Case("sophgo", "BN", BN % "icnet: true eps: 0.01", "sbmv", slope(0.01), AXES),
    "ducha-aiki": Case("ducha-aiki", "BN", BN % "shift_filler { value: 0 }", "sbmv", slope(1e-10),
                       AXES),
    "ducha-aiki-eps": Case(
        "ducha-aiki", "BN", BN % "var_eps: 0.01 decay: 0.9", "sbmv", slope(0.01), AXES
    ),
    "bndata": Case("ducha-aiki", "BNData", BN % "var_eps: 0.01", "sbmv", slope(0.01), AXES),
    "cudnn-batch-norm": Case(
        "cudnn-batch-norm", "CuDNNBatchNorm", "cudnn_batch_norm_param { eps: 1e-9 }", "sbmv",
        slope(1e-5), AXES,
    ),
    "cudnn-batch-norm-bvlc-block": Case(
        "cudnn-batch-norm", "CuDNNBatchNorm", BATCH % "eps: 0.01", "sbmv", slope(0.01), AXES
    ),
    "cudnn-batch-norm-mnn": Case(
        "cudnn-batch-norm-mnn", "CuDNNBatchNorm", BATCH % "eps: 0.01", "mvsb",
        lambda x, c, b: b[2][c] * (x - b[0][c]) / sqrt(b[1][c] + 0.01) + b[3][c], AXES,
    ),
    "batch-norm-torch": Case(
        "batch-norm-torch", "BatchNormTorch", BATCH % "eps: 0.01", "mv1sb",
        lambda x, c, b: b[3][c] * (x - b[0][c]) / sqrt(b[1][c] + 0.01) + b[4][c], ask=True,
    ),
    "batch-norm-scale": Case(
        "batch-norm-scale", "BatchNormScale", "", "mvfsb", with_scale(1e-5), ask=True
    ),
}  # fmt: skip
