"""`python -m mmtune` is `mmtune`."""

from mmtune.cli import main

raise SystemExit(main())
