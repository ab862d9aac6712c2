"""The page of a fleet: one HTML file that needs no other file and no network."""

from importlib import resources

from echoplane.edge.fleet_view import LOW_MIB, UNSEEN_H, Fleet
from echoplane.html import render


def fleet_page(fleet: Fleet) -> str:
    """Returns the page. It names devices, bundles and reasons, and no patient; everything in it is escaped."""
    template = resources.files(__package__).joinpath("fleet_page.html").read_text()
    return render(template, fleet=fleet, unseen_h=UNSEEN_H, low_mib=LOW_MIB)
