# What the image starts: flags alone are merge_bn.py's, dask and what Dask's commands were called once
# (dask-scheduler, as dask-kubernetes says it) are Dask's, all else is a command of caffe-merge.
case $1 in
    --help | -h) exec caffe-merge "$@" ;;
    -*) exec merge_bn.py "$@" ;;
    dask) exec "$@" ;;
    dask-*)
        command=${1#dask-}
        shift
        exec dask "$command" "$@"
        ;;
    *) exec caffe-merge "$@" ;;
esac
