"""``python -m fasttrack.cli``, where the script is not on the path."""

import sys

from fasttrack.cli import main

sys.exit(main())
