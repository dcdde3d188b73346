"""What ``ranges`` tells of a net: how ready its weights are for 8 bits, layer by layer."""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from caffe_merge.command.inspection import table
from caffe_merge.layers import range_table
from caffe_merge.layers.range_table import Row, Table
from caffe_merge.layers.ranges import TOO_WIDE
from caffe_merge.net.loading import Net
from caffe_merge.wording import counted, quoted, visible

SCHEMA = "caffe_merge.ranges/1"
SHOWN = 20  # layers that are printed without -v
_MOST_BITS = 8  # channels that lose as many or more are counted together
_HEADS = (
    "layer", "type", "channels", "max |w|", "/ median", "/ smallest", "bits lost",
    "SNR tensor", "SNR channel", "dead", "subnormal", "away", "|bias| / range",
)  # fmt: skip


class Ranges(NamedTuple):
    """A net as ``ranges`` shows it."""

    table: Table

    @classmethod
    def of(cls, net: Net) -> "Ranges":
        """The ranges of the layers of ``net``."""
        return cls(range_table.table(net.layers))

    def to_json(self) -> Dict[str, Any]:
        """The same as plain data; docs/int8.md describes every entry."""
        return {"schema": SCHEMA, **self.table.to_json()}

    def lines(self, verbose: bool) -> Iterator[str]:
        """The layers as a table, the worst first, and what the figures mean."""
        rows = self.table.rows
        if not rows:
            yield "no layer with weights to round: no Convolution, Deconvolution or InnerProduct"
        else:
            shown = rows if verbose else rows[:SHOWN]
            yield from table(_HEADS, list(map(_cells, shown)), left=2)
            if len(shown) < len(rows):
                yield f"... and {len(rows) - len(shown)} more (-v shows all)"
            yield ""
            yield from _verdict(rows)
        if verbose:
            yield ""
            for row in rows:
                yield f"{visible(row.layer)}: {_histogram(row)}"
        for name, reason in self.table.left_out:
            yield f"layer {quoted(name)} is left out: {reason}"


def _verdict(rows: List[Row]) -> Iterator[str]:
    """How many layers are too wide for one scale, and what to do."""
    wide = [row for row in rows if (row.to_median or 0) > TOO_WIDE]
    if wide:
        layers = counted(len(wide), "layer")
        yield (
            f"{layers} with a largest channel of more than {TOO_WIDE} times the median: "
            "quantise per channel, or merge with --equalize"
        )
    else:
        yield f"no layer's largest channel is more than {TOO_WIDE} times its median"


def _cells(row: Row) -> Tuple[str, ...]:
    return (
        visible(row.layer),
        row.type,
        str(row.channels),
        f"{row.largest:.3g}",
        _number(row.to_median, ".1f"),
        _number(row.to_smallest, ".3g"),
        _number(row.bits_lost, ".1f"),
        _number(row.snr_per_tensor, ".1f"),
        _number(row.snr_per_channel, ".1f"),
        _some(row.dead),
        _some(row.subnormal),
        _some(row.rounded_away),
        _number(row.bias_to_range, ".3g"),
    )


def _number(value: Optional[float], spec: str) -> str:
    return "-" if value is None else format(value, spec)


def _some(number: int) -> str:
    return str(number) if number else ""


def _histogram(row: Row) -> str:
    """How many channels lose how many bits to the largest one."""
    values = np.array(row.ranges)
    values = values[values > 0]
    if not len(values):
        return "all channels are dead"
    lost = np.log2(values.max()) - np.log2(values)
    bins = np.bincount(np.minimum(lost, _MOST_BITS).astype(int), minlength=_MOST_BITS + 1).tolist()
    widest = max(bins)
    parts = []
    for bits, number in enumerate(bins):
        more = "+" if bits == _MOST_BITS else ""
        bar = "#" * max(round(8 * number / widest), 1) if number else ""
        parts.append(f"{bits}{more} bits {bar}{number}")
    return ", ".join(part for part, number in zip(parts, bins) if number)
