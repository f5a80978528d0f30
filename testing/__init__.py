"""What tests and benchmarks share: the running program, videos, and contracts with sensible values."""
