"""
The benchmarks are not installed: they are imported from beside the tests.
"""

import sys
from pathlib import Path

# At the end, so that realize is the one that is installed.
sys.path.append(str(Path(__file__).parents[2]))
