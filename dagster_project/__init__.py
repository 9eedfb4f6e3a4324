"""The code location: definitions, jobs and the command line."""

import os

from dagster_project.collecting import collect_seldom

collect_seldom()
# Arrow's own allocator gives memory back between two blocks, and has the system clear it anew: of
# 2M orders on their whole way, that is a tenth of the CPU. pyarrow reads this when it is loaded.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
