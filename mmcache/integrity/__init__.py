"""Whether a cache is whole, byte for byte, and how it becomes so again."""

from mmcache.integrity.repairing import repair
from mmcache.integrity.report import Damage, Report
from mmcache.integrity.verifying import verify

__all__ = ["Damage", "Report", "repair", "verify"]
