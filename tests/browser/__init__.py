"""The page in a browser. A package, so that a page is opened once for all files of this folder."""
