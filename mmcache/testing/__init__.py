"""What mmcache is tested with, for those who write a source or a store of their own.

``SourceContract`` and ``StoreContract`` are test classes to inherit from. ``paint`` and
``paint_folder`` paint pictures; ``odd_pictures`` has one of every kind that there is.
"""

from mmcache.testing.contracts import SourceContract, StoreContract
from mmcache.testing.oddities import Odd, icc_profile, odd_pictures
from mmcache.testing.painting import paint, paint_folder, painted_sizes, save

__all__ = [
    "Odd",
    "SourceContract",
    "StoreContract",
    "icc_profile",
    "odd_pictures",
    "paint",
    "paint_folder",
    "painted_sizes",
    "save",
]
