"""The command line: arguments and printing, nothing else. Each command imports what it needs for itself."""
