"""Facts about the published adapters, written down apart from the pack."""
