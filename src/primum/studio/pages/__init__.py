"""One module a part of the site; each has `routes`, and imports no other page."""
