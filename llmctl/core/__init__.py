"""Pure rules: data in, data out. No clock, no files, no sockets, no logging."""
