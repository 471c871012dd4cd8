"""``python -m agent`` is ``edgewarden``."""

from agent.cli import main

main()
