"""When a release is to start: expressions, ticks, the request, what is wrong with it. No I/O."""
