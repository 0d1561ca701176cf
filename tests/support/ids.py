"""An id for test parameters."""

from typing import Final

# The workers of pytest-xdist must collect the same tests: an id made at import time would differ between them.
SOME_ID: Final = "019ad3c0-5f00-7000-8000-00000000a11d"
