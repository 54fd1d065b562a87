"""Datasets on disk: shards, shard cache, layout, incremental build, executors. Beneath all other packages."""
