"""`python -m neologism` is the command `neologism`."""

from __future__ import annotations

from neologism.cli import main

if __name__ == "__main__":
    main()
