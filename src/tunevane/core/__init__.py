"""Pure rules: no clock, no I/O, no grpc, no torch."""
