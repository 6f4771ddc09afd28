"""The nodes that decide when, where and by what settings an adapter acts."""
