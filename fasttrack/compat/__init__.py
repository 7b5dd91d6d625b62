"""Drop-in names of other packages, and the trackers behind their interfaces."""
