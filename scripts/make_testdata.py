#!/usr/bin/env python3
"""make_testdata.py OUT SCRATCH [NAME...]: see make-testdata.sh, which calls it."""
import sys

import make_testdata_disks      # noqa: F401  each import adds its recipes
import make_testdata_content    # noqa: F401
import make_testdata_layout     # noqa: F401
import make_testdata_damage     # noqa: F401
import make_testdata_old        # noqa: F401
from make_testdata_tools import RECIPES

for name in sys.argv[3:] or RECIPES:
    RECIPES[name](name)
