"""Sample sites on 127.0.0.1, written for this project: every outlet, person, place and event in them is invented."""

from osint_pipeline.samples.server import Served
from osint_pipeline.samples.sites import SampleSites

__all__ = ["SampleSites", "Served"]
