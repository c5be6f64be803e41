"""Draw the architecture and the house into ``figs``: ``python -m model.diagrams``."""

from .pictures.diagrams import main

if __name__ == "__main__":
    main()
