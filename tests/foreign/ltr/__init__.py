"""The part of the repository that holds networks."""

name = "ltr of this checkout"
