"""What all readers share: optional packages, and one sentence for whatever is wrong with a file."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from idm_lib.errors import InputError

#: Who reads what.
PACKAGES = {"DICOM": "pydicom", "NIfTI": "nibabel", "HDF5": "h5py"}


def load_package(kind: str) -> Any:
    """The package that reads files of a kind.

    Raises:
        InputError: it is not installed.
    """
    name = PACKAGES[kind]
    try:
        return import_module(name)
    except ImportError:
        raise InputError(
            f"{kind} files are read with {name}, which is not installed; pip install {name}, or idm_lib[medical]."
        ) from None


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a format's library raises into one sentence that names the file, and keep its warnings quiet.

    Raises:
        InputError: the file is missing, broken, or of another kind.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder; expected one {kind} file.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give the path of a whole {kind} file.") from None
    except PermissionError:
        raise InputError(f"{path} may not be read; ask for permission to read it, or give another file.") from None
    except Exception as error:  # a damaged header can make such a library raise anything at all
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise InputError(f"{path} is a broken {kind} file ({reason}); get a whole copy of the file.") from None
