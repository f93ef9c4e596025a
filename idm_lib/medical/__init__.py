"""Slices of medical scans as grey images: DICOM, NIfTI, and the HDF5 files of fastMRI.

A slice is named as its file, a ``#`` and its number from 0, as ``scan.nii.gz#80``; without one, the middle slice is
meant. A DICOM file with one frame is one slice. Formats are known by their suffix; a DICOM file may go without.

Brightness: where the file has a display window (DICOM's window, its first if it has several; NIfTI's ``cal_min`` and
``cal_max``), its lower end becomes 0 and its upper end 1. Otherwise the 0.1 % and 99.9 % percentiles of the whole
volume do, never those of one slice, so that neighbouring slices compare. What lies outside is clipped.

The readers are the formats' own libraries, pydicom, nibabel and h5py, which come with ``idm_lib[medical]`` and are
imported when a file of their kind is read.
"""

from idm_lib.medical.grey import nearly_empty
from idm_lib.medical.names import SUFFIXES, is_scan, slice_stem, split_name
from idm_lib.medical.scans import Scan, Slice, find_scans, middle, read_slice

__all__ = [
    "SUFFIXES",
    "Scan",
    "Slice",
    "find_scans",
    "is_scan",
    "middle",
    "nearly_empty",
    "read_slice",
    "slice_stem",
    "split_name",
]
