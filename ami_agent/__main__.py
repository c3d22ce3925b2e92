"""`python -m ami_agent` and the `ami-agent` script."""

import sys

from ami_agent.cli import main

if __name__ == "__main__":
    sys.exit(main())
