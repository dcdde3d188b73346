#!/bin/sh
# Whether an image of the Dockerfile does what docs/docker.md says:
#
#   tools/image_test.sh IMAGE
#
# ENGINE names what runs it, docker if not set; podman takes the same arguments. OPTIONS are more
# options of its `run`: podman without root needs `--userns keep-id`. Everything runs without a
# network, with a read-only root, without capabilities, as a user that the image does not know.
# Exit status 0 if all is as it should be, else 1, after the first line that is not.
set -eu

[ $# -eq 1 ] || { echo "usage: [ENGINE=podman] $0 IMAGE" >&2; exit 2; }
image=$1
engine=${ENGINE:-docker}
digits=$(cd "$(dirname "$0")/../examples/digits" && pwd)
models=$(mktemp -d)
trap 'rm -rf "$models"' EXIT

# Whoever starts this owns what is written; for root another user has to.
user=$(id -u)
[ "$user" -ne 0 ] || user=4321

fail() { echo "FAILED: $1" >&2; exit 1; }
passed() { echo "ok: $1"; }
hand_over() { [ "$(id -u)" -ne 0 ] || chown -R "$user:$user" "$models"; }

# container [OPTION...] IMAGE [ARGUMENT...]
container() {
    # shellcheck disable=SC2086 - OPTIONS are words
    "$engine" run ${OPTIONS:-} --rm --network none --read-only --tmpfs /tmp --cap-drop all \
        --security-opt no-new-privileges --user "$user:$user" --volume "$models:/models" "$@"
}
new() {
    rm -rf "${models:?}"/*
    cp "$digits/deploy.prototxt" "$digits/digits.caffemodel" "$models"
    hand_over
}

help=$(container "$image")
for command in merge plan batch validate inspect show ranges check engines passes styles; do
    echo "$help" | grep -q "^ *$command " || fail "the default command does not show '$command'"
done
passed "the default command shows all commands"

uid=$("$engine" run --rm --network none --entrypoint id "$image" -u)
[ "$uid" -ne 0 ] || fail "its user is root"
passed "its user is not root: $uid"

new
container "$image" --model deploy.prototxt --weights digits.caffemodel --report report.json \
    > "$models/said" || fail "merge_bn.py"
grep -q 'validation (reference): passed' "$models/said" || fail "merge_bn.py did not validate"
owner=$(stat -c %u "$models/deploy_merged.prototxt")
[ "$owner" -eq "$user" ] || fail "the output belongs to user $owner, not to $user"
passed "flags alone merge and validate; the outputs are the user's"

container "$image" merge --model deploy.prototxt --weights digits.caffemodel -q --validate none \
    --output-model again.prototxt --output-weights again.caffemodel.h5 || fail "HDF5"
container "$image" validate --model deploy.prototxt --weights digits.caffemodel -q \
    --output-model again.prototxt --output-weights again.caffemodel.h5 || fail "validate"
passed "HDF5 is written, read and agrees"

new
mkdir "$models/a" "$models/b"
mv "$models"/d* "$models/a"
cp "$models"/a/* "$models/b"
hand_over
container "$image" batch a b --output-dir out -q || fail "batch"
container "$image" batch a b --output-dir clustered --scheduler local --jobs 1 -q || fail "Dask"
for file in a/deploy.prototxt a/digits.caffemodel b/deploy.prototxt b/digits.caffemodel; do
    cmp -s "$models/out/$file" "$models/clustered/$file" || fail "$file: Dask made another one"
done
passed "a batch, alone and with Dask, makes the same files"

caffe=$("$engine" run --rm --network none --entrypoint printenv "$image" CAFFE_MERGE_CAFFE_PYTHON) \
    || { echo "no Caffe in it: the target is not 'caffe'"; exit 0; }
new
container "$image" --model deploy.prototxt --weights digits.caffemodel --validate pycaffe \
    > "$models/said" || fail "--validate pycaffe"
grep -q 'validation (pycaffe): passed' "$models/said" || fail "pycaffe did not validate"
passed "its Caffe validates"

types=$(container --entrypoint "$caffe" "$image" -c \
    'import caffe; print(*caffe.layer_type_list())' 2>/dev/null) || fail "import caffe"
for type in Axpy ConvolutionDepthwise Interp ShuffleChannel; do
    case " $types " in *" $type "*) ;; *) fail "its Caffe has no layer $type" ;; esac
done
passed "its Caffe has layers of forks"
