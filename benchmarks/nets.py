"""The nets that are measured, in the form they are trained in, at their own width."""

from typing import Callable, Dict, List, Sequence, Tuple

from benchmarks.building import Blob, Building, Sides

Path = Sequence[Tuple[int, Sides]]  # width and kernel of each convolution

# Stage: blocks, width of the inner convolutions; a block's output is four times as wide.
RESNET_50 = ((3, 64), (4, 128), (6, 256), (3, 512))
RESNET_152 = ((3, 64), (8, 128), (36, 256), (3, 512))
REPVGG_A0 = ((1, 48), (2, 48), (4, 96), (14, 192), (1, 1280))
RESNET_18 = ((2, 64), (2, 128), (2, 256), (2, 512))
DENSENET_121 = (6, 12, 24, 16)
GROWTH = 32
# Stage: channels and stride of each pair of a depthwise and a 1x1 convolution.
MOBILENET_V1 = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    *[(512, 1)] * 5, (1024, 2), (1024, 1),
)  # fmt: skip
# Expansion, channels, blocks, stride of the first.
MOBILENET_V2 = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip
# Kernel, width, channels, whether it excites, whether it has h-swish, stride.
MOBILENET_V3 = (
    (3, 16, 16, 0, 0, 1), (3, 64, 24, 0, 0, 2), (3, 72, 24, 0, 0, 1), (5, 72, 40, 1, 0, 2),
    (5, 120, 40, 1, 0, 1), (5, 120, 40, 1, 0, 1), (3, 240, 80, 0, 1, 2), (3, 200, 80, 0, 1, 1),
    (3, 184, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1), (3, 480, 112, 1, 1, 1), (3, 672, 112, 1, 1, 1),
    (5, 672, 160, 1, 1, 2), (5, 960, 160, 1, 1, 1), (5, 960, 160, 1, 1, 1),
)  # fmt: skip
APART = (
    1.0  # the spread of a trained MobileNet's channels: the largest is 10 to 20 times the median
)


def resnet152(net: Building, repeat: int = 1) -> None:
    """He et al. 2015; about 240 MB, or with its blocks ``repeat`` times."""
    _resnet(net, [(blocks * repeat, width) for blocks, width in RESNET_152])


def resnet50(net: Building) -> None:
    """He et al. 2015, with the strides where they had them: in the first 1x1 of a block."""
    _resnet(net, RESNET_50)


def _resnet(net: Building, stages: Sequence[Tuple[int, int]]) -> None:
    x = _stem(net)
    for stage, (blocks, width) in enumerate(stages):
        for block in range(blocks):
            name, stride = f"s{stage}b{block}", 2 if stage and not block else 1
            short = x if block else net.conv_norm(x, f"{name}_proj", 4 * width, 1, stride)
            y = net.relu(net.conv_norm(x, f"{name}_a", width, 1, stride))
            y = net.relu(net.conv_norm(y, f"{name}_b", width, 3))
            y = net.conv_norm(y, f"{name}_c", 4 * width, 1)
            x = net.relu(net.add(f"{name}_sum", y, short))
    net.classify(x)


def repvgg(net: Building) -> None:
    """RepVGG-A0 (Ding et al. 2021): 3x3, 1x1 and identity, each normalised, added up."""
    x = net.input()
    for stage, (blocks, width) in enumerate(REPVGG_A0):
        for block in range(blocks):
            name, stride = f"s{stage}b{block}", 1 if block else 2
            branches = [
                net.conv_norm(x, f"{name}_3x3", width, 3, stride),
                net.conv_norm(x, f"{name}_1x1", width, 1, stride),
            ]
            if stride == 1:
                branches.append(net.normalise(x, f"{name}_id", f"{name}_id"))
            x = net.relu(net.add(f"{name}_sum", *branches))
    net.classify(x)


def acnet(net: Building) -> None:
    """ResNet-18 with ACNet's blocks (Ding et al. 2019): each 3x3 with a 1x3 and a 3x1 beside it."""
    x = _stem(net)
    for stage, (blocks, width) in enumerate(RESNET_18):
        for block in range(blocks):
            name, stride = f"s{stage}b{block}", 2 if stage and not block else 1
            short = net.conv_norm(x, f"{name}_proj", width, 1, 2) if stride > 1 else x
            y = net.relu(_asymmetric(net, x, f"{name}_a", width, stride))
            y = _asymmetric(net, y, f"{name}_b", width, 1)
            x = net.relu(net.add(f"{name}_sum", y, short))
    net.classify(x)


def _asymmetric(net: Building, x: Blob, name: str, width: int, stride: int) -> Blob:
    branches = [
        net.conv_norm(x, f"{name}_{height}x{across}", width, (height, across), stride)
        for height, across in ((3, 3), (1, 3), (3, 1))
    ]
    return net.add(name, *branches)


def densenet(net: Building) -> None:
    """DenseNet-121 (Huang et al. 2017): every layer reads all before it, normalised anew."""
    x = _stem(net)
    for stage, layers in enumerate(DENSENET_121):
        for number in range(layers):
            name = f"s{stage}l{number}"
            y = net.conv(net.norm_relu(x, f"{name}_x1n"), f"{name}_x1", 4 * GROWTH, 1)
            y = net.conv(net.norm_relu(y, f"{name}_x2n"), f"{name}_x2", GROWTH, 3)
            x = net.concat(f"{name}_cat", x, y)
        x = net.norm_relu(x, f"s{stage}n")
        if stage < len(DENSENET_121) - 1:
            x = net.conv(x, f"s{stage}_half", x.channels // 2, 1)
            x = net.pool(x, f"s{stage}_pool", "pool: AVE kernel_size: 2 stride: 2")
    net.classify(x)


def preact(net: Building) -> None:
    """The ResNet-50 of He et al. 2016, that normalises before each convolution."""
    x = net.pool(net.conv(net.input(), "conv1", 64, 7, 2), "pool1", "kernel_size: 3 stride: 2")
    for stage, (blocks, width) in enumerate(RESNET_50):
        for block in range(blocks):
            name, stride = f"s{stage}b{block}", 2 if stage and not block else 1
            y = net.norm_relu(x, f"{name}_pre")
            short = x if block else net.conv(y, f"{name}_proj", 4 * width, 1, stride)
            y = net.relu(net.conv_norm(y, f"{name}_a", width, 1, stride))
            y = net.relu(net.conv_norm(y, f"{name}_b", width, 3))
            x = net.add(f"{name}_sum", net.conv(y, f"{name}_c", 4 * width, 1), short)
    net.classify(net.norm_relu(x, "last"))


def inception_v3(net: Building) -> None:
    """Inception-v3 (Szegedy et al. 2015), all of its windows padded."""
    x = net.input()
    for name, width, kernel, stride in (("a", 32, 3, 2), ("b", 32, 3, 1), ("c", 64, 3, 1)):
        x = net.relu(net.conv_norm(x, f"stem_{name}", width, kernel, stride))
    x = net.pool(x, "stem_pool1", "kernel_size: 3 stride: 2")
    for name, width, kernel in (("d", 80, 1), ("e", 192, 3)):
        x = net.relu(net.conv_norm(x, f"stem_{name}", width, kernel))
    x = net.pool(x, "stem_pool2", "kernel_size: 3 stride: 2")
    paths: List[Path]
    for number, pooled in enumerate((32, 64, 64)):
        paths = [[(64, 1)], [(48, 1), (64, 5)], [(64, 1), (96, 3), (96, 3)]]
        x = _module(net, x, f"a{number}", paths, pooled)
    x = _module(net, x, "b", [[(384, 3)], [(64, 1), (96, 3), (96, 3)]], stride=2)
    for number, width in enumerate((128, 160, 160, 192)):
        once: Path = [(width, 1), (width, (1, 7)), (192, (7, 1))]
        twice: Path = [(width, 1), (width, (7, 1)), (width, (1, 7)), (width, (7, 1)), (192, (1, 7))]
        x = _module(net, x, f"c{number}", [[(192, 1)], once, twice], 192)
    long: Path = [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)]
    x = _module(net, x, "d", [[(192, 1), (320, 3)], long], stride=2)
    for number in range(2):
        paths = [[(320, 1)]]
        for sides in ((1, 3), (3, 1)):
            paths += [[(384, 1), (384, sides)], [(448, 1), (384, 3), (384, sides)]]
        x = _module(net, x, f"e{number}", paths, 192)
    net.classify(x)


def _module(
    net: Building, x: Blob, name: str, paths: Sequence[Path], pooled: int = 0, stride: int = 1
) -> Blob:
    """Convolutions in a row in each of the ``paths``, and a pooling; all side by side.

    The last of a row has the ``stride``. Behind the pooling are ``pooled`` channels of a 1x1
    convolution, or its own.
    """
    ends = []
    for number, path in enumerate(paths):
        y = x
        for at, (width, kernel) in enumerate(path):
            last = at == len(path) - 1
            y = net.conv_norm(y, f"{name}_{number}{at}", width, kernel, stride if last else 1)
            y = net.relu(y)
        ends.append(y)
    window = "pool: AVE kernel_size: 3 stride: 1 pad: 1" if pooled else "kernel_size: 3 stride: 2"
    y = net.pool(x, f"{name}_pool", window)
    if pooled:
        y = net.relu(net.conv_norm(y, f"{name}_proj", pooled, 1))
    return net.concat(f"{name}_cat", *ends, y)


def _stem(net: Building) -> Blob:
    x = net.relu(net.conv_norm(net.input(), "conv1", 64, 7, 2))
    return net.pool(x, "pool1", "kernel_size: 3 stride: 2")


def mobilenet_v1(net: Building) -> None:
    """Howard et al. 2017."""
    net.spread = APART
    x = net.relu(net.conv_norm(net.input(), "conv1", 32, 3, 2))
    for number, (channels, stride) in enumerate(MOBILENET_V1):
        x = net.relu(net.depthwise(x, f"dw{number}", stride))
        x = net.relu(net.conv_norm(x, f"pw{number}", channels, 1))
    net.classify(x)


def mobilenet_v2(net: Building) -> None:
    """Sandler et al. 2018, with ReLU in the place of ReLU6, which equalisation does not go through.

    Nagel et al. 2019 exchange it too.
    """
    net.spread = APART
    x = net.relu(net.conv_norm(net.input(), "conv1", 32, 3, 2))
    for stage, (factor, channels, blocks, first) in enumerate(MOBILENET_V2):
        for block in range(blocks):
            name, stride = f"s{stage}b{block}", 1 if block else first
            y = x
            if factor > 1:
                y = net.relu(net.conv_norm(x, f"{name}_up", factor * x.channels, 1))
            y = net.relu(net.depthwise(y, f"{name}_dw", stride))
            y = net.conv_norm(y, f"{name}_down", channels, 1)
            x = net.add(f"{name}_sum", y, x) if block else y
    net.classify(net.relu(net.conv_norm(x, "last", 1280, 1)))


def mobilenet_v3(net: Building) -> None:
    """Howard et al. 2019, large: h-swish is a product of x and two Powers around a ReLU."""

    def swish(x: Blob) -> Blob:
        return net.product(f"{x.name}_swish", x, net.hard_sigmoid(x, f"{x.name}_hard"))

    x = swish(net.conv_norm(net.input(), "conv1", 16, 3, 2))
    for number, (kernel, width, channels, excites, swishes, stride) in enumerate(MOBILENET_V3):
        name, act = f"b{number}", swish if swishes else net.relu
        y = x if width == x.channels else act(net.conv_norm(x, f"{name}_up", width, 1))
        y = act(net.depthwise(y, f"{name}_dw", stride, kernel))
        y = net.excite(y, f"{name}_se") if excites else y
        y = net.conv_norm(y, f"{name}_down", channels, 1)
        x = net.add(f"{name}_sum", y, x) if stride == 1 and channels == x.channels else y
    x = swish(net.conv_norm(x, "last", 960, 1))
    x = net.pool(x, "squeeze", "pool: AVE global_pooling: true")
    net.classify(swish(net.conv(x, "wide", 1280, 1)))


def inception_resnet50(net: Building) -> None:
    """ResNet-50 with two paths in each block, normalised behind their Concat, as AirX-50 has it."""
    x = _stem(net)
    for stage, (blocks, width) in enumerate(RESNET_50):
        for block in range(blocks):
            name, stride = f"s{stage}b{block}", 2 if stage and not block else 1
            short = x if block else net.conv_norm(x, f"{name}_proj", 4 * width, 1, stride)
            y = net.relu(net.conv_norm(x, f"{name}_a1", width // 2, 1))
            z = net.relu(net.conv_norm(x, f"{name}_b1", width // 4, 1))
            z = net.relu(net.conv_norm(z, f"{name}_b2", width // 4, 3))
            ends = (
                net.conv(y, f"{name}_a2", width // 2, 3, stride),
                net.conv(z, f"{name}_b3", width // 2, 3, stride),
            )
            y = net.norm_relu(net.concat(f"{name}_cat", *ends), f"{name}_n")
            x = net.relu(net.add(f"{name}_sum", net.conv_norm(y, f"{name}_c", 4 * width, 1), short))
    net.classify(x)


# Nets whose weights are rounded to 8 bits.
MOBILE: Dict[str, Callable[[Building], None]] = {
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
}

# Nets whose forward pass is measured, by the name of their files.
FORWARD: Dict[str, Callable[[Building], None]] = {
    "repvgg_a0": repvgg,
    "acnet_resnet18": acnet,
    "densenet121": densenet,
    "resnet50": resnet50,
    "preact_resnet50": preact,
    "mobilenet_v3": mobilenet_v3,
    "inception_resnet50": inception_resnet50,
}
