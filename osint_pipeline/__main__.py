"""Makes `python -m osint_pipeline` the same as `osint`."""

from osint_pipeline.cli import main

main()
