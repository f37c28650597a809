"""What the roles of a release may do, computed from its definition. No I/O."""
