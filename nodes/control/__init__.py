"""When, where and by what settings an adapter acts."""
