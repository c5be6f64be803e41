"""The authors' published checkpoints -> ours: ``python -m model.authors_checkpoint their_folder runs/theirs``."""

from .run_folder.authors_checkpoint import main

if __name__ == "__main__":
    main()
