"""`python -m outlast.rack FOLDER ...`: one rack in the foreground; see daemon.py."""

from outlast.rack.daemon import main

raise SystemExit(main())
