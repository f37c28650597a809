"""What a plan of a promotion consists of, and how two documents differ. No I/O."""
