"""The web page: a client of the server like any other, which shows what its reader may see."""

from gradwire_server.page.site import Page

__all__ = ["Page"]
