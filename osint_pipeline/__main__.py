"""Makes `python -m osint_pipeline` the same as `osint`."""

from osint_pipeline.cli import main

if __name__ == "__main__":  # a worker's processes import it under another name
    main()
