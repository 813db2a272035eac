"""The measurement itself: operations and their sizes, the work around a layer, its check, the timing loop, memory."""
