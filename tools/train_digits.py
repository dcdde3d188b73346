"""Train the example net, examples/digits, with real Caffe.

    python tools/train_digits.py --out examples/digits    # about a minute on one CPU core

Writes deploy.prototxt, digits.caffemodel and test_images.npz into the folder. The net is the one in
examples/digits/deploy.prototxt: training adds only a batch size, a label input, the loss, and a
BatchNorm that learns (see TrainingBatchNorm).

Needs pycaffe and scikit-learn, in one Python 3.9 environment for instance:

    pip install kendryte-caffe "numpy<1.24" "protobuf<3.21" scikit-learn

Seeded, and on one thread: the same machine and packages give the same weights again.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Dict, Iterator, Tuple

os.environ.setdefault("GLOG_minloglevel", "2")  # before caffe is imported, as are the next two
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import caffe
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from sklearn.datasets import load_digits

DEPLOY = Path(__file__).resolve().parent.parent / "examples" / "digits" / "deploy.prototxt"
GREYS = 16.0  # pixels are 0..16; the net is given 0..1
BATCH = 64
TEST_EVERY = 5  # images 0, 5, 10, ... are held out

Arrays = Tuple[np.ndarray, np.ndarray]


def split_digits() -> Tuple[Arrays, Arrays]:
    """(images, labels) to train on, and those held out; uint8, N x 1 x 8 x 8 and N."""
    digits = load_digits()
    images = digits.images.astype(np.uint8)[:, np.newaxis]
    labels = digits.target.astype(np.uint8)
    held_out = np.arange(len(labels)) % TEST_EVERY == 0
    return (images[~held_out], labels[~held_out]), (images[held_out], labels[held_out])


class TrainingBatchNorm(caffe.Layer):
    """BatchNorm as it trains: the batch's own statistics, whose moving sums are its three blobs.

    The kendryte-caffe wheel has only the half of BatchNorm that runs on stored statistics, so the
    formulas of BVLC's layer are written out here. Its blobs are the same, so that the deployed net,
    with Caffe's own BatchNorm, loads them as they are.
    """

    def setup(self, bottom, top):
        """Read eps and the moving average's fraction; start the sums at zero."""
        self.eps, self.fraction = map(float, self.param_str.split())
        for size in (bottom[0].shape[1], bottom[0].shape[1], 1):
            self.blobs.add_blob(size)
            self.blobs[len(self.blobs) - 1].data[...] = 0

    def reshape(self, bottom, top):
        """The output is shaped like the input, all axes but the second being averaged over."""
        top[0].reshape(*bottom[0].shape)
        self.axes = tuple(axis for axis in range(len(bottom[0].shape)) if axis != 1)

    def forward(self, bottom, top):
        """Normalise by the batch's own mean and variance, and add both to the moving sums."""
        x = bottom[0].data
        mean = x.mean(self.axes, keepdims=True)
        variance = x.var(self.axes, keepdims=True)
        count = x.size // mean.size
        self.std = np.sqrt(variance + self.eps)
        self.normal = (x - mean) / self.std
        top[0].data[...] = self.normal
        unbiased = variance * (count / (count - 1))
        for blob, new in zip(self.blobs, (mean, unbiased, np.ones(1))):
            blob.data[...] = self.fraction * blob.data + new.ravel()

    def backward(self, top, propagate_down, bottom):
        """The gradient, through the batch's mean and variance too."""
        dy, y = top[0].diff, self.normal
        through_mean = dy.mean(self.axes, keepdims=True)
        through_variance = y * (dy * y).mean(self.axes, keepdims=True)
        bottom[0].diff[...] = (dy - through_mean - through_variance) / self.std


def training_net(deploy: str) -> caffe_pb2.NetParameter:
    """The deployed net with a batch size, labels, a loss, and a BatchNorm that learns."""
    net = text_format.Parse(deploy, caffe_pb2.NetParameter())
    data, softmax = net.layer[0], net.layer[-1]
    data.input_param.shape[0].dim[0] = BATCH
    data.top.append("label")
    data.input_param.shape.add().dim.append(BATCH)
    softmax.type = "SoftmaxWithLoss"
    softmax.bottom.append("label")
    softmax.top[0] = softmax.name = "loss"
    for layer in net.layer:
        if layer.type == "BatchNorm":
            batch_norm, python = layer.batch_norm_param, layer.python_param
            layer.type = "Python"
            python.module, python.layer = __name__, TrainingBatchNorm.__name__
            python.param_str = f"{batch_norm.eps} {batch_norm.moving_average_fraction}"
            for _ in range(3):  # the solver leaves the statistics alone
                layer.param.add(lr_mult=0, decay_mult=0)
    return net


def solver_settings(deploy: str, args: argparse.Namespace) -> caffe_pb2.SolverParameter:
    """Plain SGD with momentum, the learning rate falling linearly to nothing."""
    return caffe_pb2.SolverParameter(
        train_net_param=training_net(deploy),
        type="SGD",
        base_lr=0.05,
        momentum=0.9,
        weight_decay=0.0005,
        lr_policy="poly",
        power=1,
        max_iter=args.iterations,
        random_seed=args.seed,
        solver_mode=caffe_pb2.SolverParameter.CPU,
        snapshot_after_train=False,
    )


def batches(data: Arrays, seed: int) -> Iterator[Arrays]:
    """Full batches without end, shuffled anew each epoch."""
    random = np.random.RandomState(seed)
    images, labels = data
    while True:
        order = random.permutation(len(labels))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            yield images[chosen] / GREYS, labels[chosen]


def train(deploy: str, data: Arrays, args: argparse.Namespace, folder: str) -> str:
    """Path of the weights as training left them."""
    settings = Path(folder, "solver.prototxt")
    settings.write_text(text_format.MessageToString(solver_settings(deploy, args)))
    solver = caffe.get_solver(str(settings))
    began = time.time()
    for iteration, (images, labels) in zip(range(1, args.iterations + 1), batches(data, args.seed)):
        solver.net.blobs["data"].data[...] = images
        solver.net.blobs["label"].data[...] = labels
        solver.step(1)
        if iteration % 500 == 0:
            loss, seconds = float(solver.net.blobs["loss"].data), time.time() - began
            print(f"iteration {iteration}: loss {loss:.4f}, {seconds:.0f} s", flush=True)
    trained = Path(folder, "trained.caffemodel")
    solver.net.save(str(trained))
    return str(trained)


def accuracy(net: caffe.Net, data: Arrays) -> float:
    """Share of the images the net names rightly."""
    images, labels = data
    net.blobs["data"].reshape(*images.shape)
    net.blobs["data"].data[...] = images / GREYS
    return float(np.mean(net.forward()["prob"].argmax(axis=1) == labels))


def factors(net: caffe.Net) -> Dict[str, float]:
    """Each BatchNorm's third blob: what its stored sums must be divided by."""
    types = {name: layer.type for name, layer in zip(net._layer_names, net.layers)}
    return {n: float(b[2].data[0]) for n, b in net.params.items() if types[n] == "BatchNorm"}


def main() -> None:
    """Train, write the three files, and print what came out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the three files")
    parser.add_argument("--iterations", type=int, default=7000)  # BatchNorm factors near 999
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    deploy = DEPLOY.read_bytes()
    training, test = split_digits()
    with tempfile.TemporaryDirectory() as folder:
        trained = train(deploy.decode(), training, args, folder)
        net = caffe.Net(str(DEPLOY), caffe.TEST, weights=trained)

    args.out.mkdir(parents=True, exist_ok=True)
    net.save(str(args.out / "digits.caffemodel"))
    (args.out / DEPLOY.name).write_bytes(deploy)  # the very same file in examples/digits
    np.savez_compressed(args.out / "test_images.npz", images=test[0], labels=test[1])
    for name, factor in factors(net).items():
        print(f"{name}: BatchNorm factor {factor:.2f}")
    print(f"accuracy on {len(test[1])} held-out images: {accuracy(net, test):.2%}")


if __name__ == "__main__":
    main()
