"""Every module can be imported, by the oldest Python too: annotations that it evaluates, say."""

import pkgutil
from importlib import import_module

import caffe_merge


def test_every_module_can_be_imported() -> None:
    modules = pkgutil.walk_packages(caffe_merge.__path__, "caffe_merge.")
    names = [module.name for module in modules if not module.name.endswith("__main__")]
    assert len(names) > 250
    for name in names:
        try:
            import_module(name)
        except ModuleNotFoundError as error:  # of an extra that is not installed
            if str(error.name).startswith("caffe_merge"):
                raise
