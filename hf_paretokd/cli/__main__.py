"""`python -m hf_paretokd.cli`."""

import sys

from hf_paretokd.cli.main import main

sys.exit(main())
