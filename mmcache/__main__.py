"""``python -m mmcache``."""

from mmcache.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
